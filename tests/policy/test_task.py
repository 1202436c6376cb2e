"""The live task: what it writes stands once, and a session that policy gives up has ended for good."""

import uuid
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from policy.task import PolicyTask
from schemas.bus.base import Fence, Planes
from schemas.clock import SystemClock
from schemas.decisions import Abandon, decision_id, policy_decisions
from schemas.errors import BusUnavailable, Conflict
from schemas.events import EVENT, AudioProcessed, FrameRejected, SessionStarted, VideoProcessed
from schemas.message import encode
from schemas.names import Kind, SessionKeys
from schemas.session_store import ABANDONED, SessionRecord, SessionStore
from schemas.task import Lease
from tests.faults.harness import failing

AWAY = BusUnavailable("the server died")


@dataclass
class Given:
    """A session whose 61st frame was rejected just now."""

    planes: Planes
    record: SessionRecord

    @property
    def keys(self) -> SessionKeys:
        return SessionKeys(self.record.sid)

    async def task(self, on: Planes | None = None) -> PolicyTask:
        """Return the task of a new owner, with this view of the servers."""
        on = on or self.planes
        epoch = await self.planes.events.raise_epoch(self.keys.epoch, Kind.POLICY)
        fence = Fence(self.keys.epoch, Kind.POLICY, epoch)
        lease = Lease(Kind.POLICY, self.keys, self.record, "w", fence, on, SystemClock())
        return PolicyTask(lease, SessionStore(on))

    async def work(self, task: PolicyTask) -> None:
        """Resume, and fold what there is."""
        cursor = await task.resume()
        found = await self.planes.events.read({self.keys.metrics: cursor}, count=1000, block_ms=None)
        await task.handle(found.get(self.keys.metrics, []))

    async def decided(self) -> list[str]:
        entries = await self.planes.events.entries(self.keys.policy)
        return [policy_decisions.decode(entry.fields[EVENT]).rule for entry in entries]

    async def ended(self) -> str | None:
        return (await SessionStore(self.planes).load(self.record.sid)).ended


@pytest.fixture
async def given(planes: Planes) -> Given:
    now_ms = await planes.events.now_ms()
    record = SessionRecord(sid=uuid.uuid4().hex, owner="o", created_ms=now_ms, expires_ms=now_ms + 3_600_000)
    session = Given(planes, record)
    await SessionStore(planes).create(record, deadline_ms=now_ms + 60_000)
    rejections = [FrameRejected(producer="conn", seq=seq, media="video", reason="bad_jpeg") for seq in range(61)]
    await planes.events.append_all(session.keys.metrics, [{EVENT: encode(event)} for event in rejections])
    return session


async def test_a_session_that_is_given_up_has_ended(given: Given) -> None:
    await given.work(await given.task())
    assert await given.decided() == ["health.invalid"]
    assert await given.ended() == ABANDONED


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("method", ["publish", "put_once", "append", "drop_fields", "expire", "put"])
async def test_wherever_a_service_dies_its_successor_writes_the_same_and_ends_the_session(
    given: Given, method: str, *, done: bool
) -> None:
    """The call fails, before or after it took effect: the decision, each write of the end, the snapshot."""
    broken = Planes(given.planes.media, failing(given.planes.events, method, AWAY, done=done))
    with pytest.raises(BusUnavailable):
        await given.work(await given.task(broken))
    await given.work(await given.task())
    assert await given.decided() == ["health.invalid"]
    assert await given.ended() == ABANDONED


async def test_a_successor_goes_on_after_the_snapshot(given: Given) -> None:
    await given.work(await given.task())
    successor = await given.task()
    cursor = await successor.resume()
    left = (await given.planes.events.read({given.keys.metrics: cursor}, count=10, block_ms=None))[given.keys.metrics]
    assert len(left) == 1, "only the end that the decision led to"
    await successor.handle(left)
    assert await given.decided() == ["health.invalid"]


async def test_a_decision_that_stands_with_other_content_stops_the_service(given: Given) -> None:
    newest = (await given.planes.events.entries(given.keys.metrics, count=1, newest_first=True))[0].id
    other = Abandon(cause=str(newest), rule="another", reason="another")
    task = await given.task()
    fence = Fence(given.keys.epoch, Kind.POLICY, await given.planes.events.epoch(given.keys.epoch, Kind.POLICY))
    await given.planes.events.publish(given.keys.policy, decision_id(newest, 0), {EVENT: encode(other)}, fence=fence)
    with pytest.raises(Conflict, match="stands with other content"):
        await given.work(task)


async def test_floors_which_come_with_every_chunk_of_a_late_session_are_no_news_for_the_log(given: Given) -> None:
    picture = VideoProcessed(
        id="1-0",
        pts_us=0,
        epoch=1,
        runtime_us=1,
        stages_us={},
        faces=1,
        detector_ran=True,
        confidence_pm=900,
        outcome="swapped",
    )
    chunks = [
        AudioProcessed(
            id=f"{n}-0",
            pts_us=n * 192_000,
            epoch=1,
            duration_us=192_000,
            runtime_us=1,
            stages_us={},
            outcome="converted",
        )
        for n in range(1, 5)
    ]
    events = [{EVENT: encode(event)} for event in (picture, *chunks)]
    await given.planes.events.append_all(given.keys.metrics, events)
    with capture_logs() as lines:
        await given.work(await given.task())
    assert await given.decided() == ["health.invalid", *["sync.drop"] * 4]
    levels = {line["rule"]: line["log_level"] for line in lines if line["event"] == "decided"}
    assert levels == {"health.invalid": "info", "sync.drop": "debug"}


async def test_entries_that_cannot_be_read_are_passed_over(given: Given) -> None:
    await given.planes.events.append_all(given.keys.metrics, [{EVENT: b"?"}, {b"other": b""}])
    await given.work(await given.task())
    assert await given.decided() == ["health.invalid"]


async def test_a_session_of_another_builds_rules_is_left_alone_and_said_once(given: Given) -> None:
    """Failing would only hand it from worker to worker, for as long as it lives."""
    for rules_version in (99, 99):
        foreign = encode(SessionStarted(rules_version=rules_version))
        await given.planes.events.append(given.keys.metrics, {EVENT: foreign})
    with capture_logs() as logs:
        await given.work(await given.task())
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["session left alone"]


async def test_a_snapshot_whose_version_is_no_number_is_folded_over(given: Given) -> None:
    await given.planes.events.put(given.keys.snapshot, {b"state": b"x", b"rules_version": b"two"})
    await given.work(await given.task())
    assert await given.decided()
