"""Real workers are killed, frozen and drained under live sessions: nothing is lost, doubled or reordered."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from schemas.bus.base import Planes
from schemas.decisions import SoftSkip
from schemas.events import EVENT, DropReason, Outcome, VideoDropped, VideoProcessed, metric_events
from schemas.media import OUTCOME
from schemas.message import encode
from schemas.names import Kind
from schemas.session_store import SessionStore
from tests.faults.harness import LEASE_MS, Live, Worker, everyone, workers
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.faults

Fault = Callable[[Worker], Awaitable[None]]


async def kill(worker: Worker) -> None:
    worker.send(signal.SIGKILL)


async def freeze(worker: Worker) -> None:
    """Stop it in the middle of a frame: it goes on as a zombie, once its sessions have been taken over."""
    worker.send(signal.SIGSTOP)


async def drain(worker: Worker) -> None:
    worker.send(signal.SIGTERM)


async def _claimed(live: Live) -> bool:
    return len(await live.took()) >= 1


async def _taken_over(live: Live) -> bool:
    return len(set(await live.took())) >= 2


@pytest.mark.parametrize(
    ("fault", "kind", "lease_ms"),
    [
        (kill, Kind.VIDEO, LEASE_MS),
        (freeze, Kind.VIDEO, LEASE_MS),
        (drain, Kind.VIDEO, 10 * round(PATIENCE_S) * 1000),
        (kill, Kind.VOICE, LEASE_MS),
    ],
)
async def test_every_input_has_exactly_one_outcome(
    planes: Planes, server_urls: tuple[str, str], fault: Fault, kind: Kind, lease_ms: int
) -> None:
    """Another worker takes every session over; one that is asked to stop hands over long before its lease is out."""
    store = SessionStore(planes)
    lives = [Live(kind, planes, store) for _ in range(3)]
    with workers(kind, 1, server_urls, cost_ms=8, sessions=3, lease_ms=lease_ms) as first:
        for live in lives:
            await live.create()
        await until(everyone(lives, _claimed), what="sessions claimed")
        with workers(kind, 1, server_urls, cost_ms=8, sessions=3, lease_ms=lease_ms):
            publishing = asyncio.gather(*(live.publish(seconds=60) for live in lives))
            await until(everyone(lives, lambda live: live.published(20)), what="first frames")
            await fault(first[0])
            await until(everyone(lives, _taken_over), what="sessions taken over")
            if fault is freeze:
                first[0].send(signal.SIGCONT)
            more = 10 + max([len(await live.outputs()) for live in lives])
            await until(everyone(lives, lambda live: live.published(more)), what="more frames")
            for live in lives:
                live.stopped = True
            await publishing
            await until(everyone(lives, Live.settled), what="every input settled")
            for live in lives:
                await live.assert_nothing_lost_doubled_or_reordered()
                assert len(set(await live.took())) == 2, "the other worker took the session over"
            if fault is drain:
                assert await asyncio.to_thread(first[0].process.wait, PATIENCE_S) == 0
            for live in lives:
                await store.end(live.sid, "test over")
            await until(everyone(lives, Live.retired), what="work entries retired")


async def test_every_input_has_exactly_one_outcome_when_workers_die_during_a_soft_skip(
    planes: Planes, server_urls: tuple[str, str]
) -> None:
    """Killed twice, so that every owner but the first begins in the middle of it; each leaves out every fourth."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    await planes.events.append(live.keys.policy, {EVENT: encode(SoftSkip(cause="1-0", rule="soft_skip", of=4))})
    with workers(Kind.VIDEO, 3, server_urls, cost_ms=8, sessions=1) as pool:
        await until(lambda: _claimed(live), what="session claimed")
        publishing = asyncio.create_task(live.publish(seconds=60))
        for owners in (1, 2):
            more = len(await live.outputs()) + 15
            await until(lambda more=more: live.published(more), what="frames")  # type: ignore[misc]
            pid = int((await live.took())[-1].split("-")[-2])
            (owner,) = [worker for worker in pool if worker.process.pid == pid]
            await kill(owner)

            async def taken_over(owners: int = owners) -> bool:
                return len(set(await live.took())) > owners

            await until(taken_over, what="session taken over")
        more = len(await live.outputs()) + 15
        await until(lambda: live.published(more), what="frames of the last owner")
        live.stopped = True
        await publishing
        await until(live.settled, what="every input settled")
    await live.assert_one_outcome_each()
    reports = await live.reports()
    skipped = [(report.input, report.outcome) for report in reports if isinstance(report.outcome, VideoDropped)]
    assert {outcome.reason for _, outcome in skipped} == {DropReason.SOFT_SKIP}
    assert {outcome.epoch for _, outcome in skipped} == {owner.epoch for owner in await live.owners()}
    assert await live.outputs() == [one for one in live.sent if one not in dict(skipped)]
    assert [report.input for report in reports] == live.sent, "an outcome was reported before an older one"
    last = [report for report in reports if report.outcome.epoch == (await live.owners())[-1].epoch]
    begun = [isinstance(report.outcome, VideoDropped) for report in last]
    first = begun.index(True)  # it may have reported for its predecessor before it began
    assert [n for n, left_out in enumerate(begun) if left_out] == list(range(first, len(begun), 4))


async def test_a_zombie_that_wakes_before_its_successor_has_worked_publishes_nothing(
    planes: Planes, server_urls: tuple[str, str]
) -> None:
    """The frame that a frozen worker had in its hands is its successor's: it is fenced off, not merely outrun."""
    store = SessionStore(planes)
    lives = [Live(Kind.VIDEO, planes, store) for _ in range(3)]
    with workers(Kind.VIDEO, 1, server_urls, cost_ms=0, sessions=3) as zombie:
        for live in lives:
            await live.create()
        await until(everyone(lives, _claimed), what="sessions claimed")
        with workers(Kind.VIDEO, 1, server_urls, cost_ms=400, sessions=3) as heir:
            publishing = asyncio.gather(*(live.publish(seconds=60, per_s=5) for live in lives))
            await until(everyone(lives, lambda live: live.published(2)), what="first frames")
            zombie[0].send(signal.SIGSTOP)
            await until(everyone(lives, _taken_over), what="sessions taken over")
            heir[0].send(signal.SIGSTOP)  # in the middle of its first frame
            before = [await _published_by_the_first(live) for live in lives]
            zombie[0].send(signal.SIGCONT)
            zombie[0].send(signal.SIGTERM)
            assert await asyncio.to_thread(zombie[0].process.wait, PATIENCE_S) == 0
            heir[0].send(signal.SIGCONT)
            for live in lives:
                live.stopped = True
                await store.end(live.sid, "test over")
            await publishing
            assert before == [await _published_by_the_first(live) for live in lives]
            await until(everyone(lives, Live.retired), what="work entries retired")
            for live in lives:
                await live.assert_one_outcome_each()


async def _published_by_the_first(live: Live) -> int:
    """Count the outputs that the session's first owner published."""
    first = (await live.owners())[0].epoch
    events = [metric_events.decode(entry.fields[OUTCOME]) for entry in await live.planes.media.entries(live.streams[1])]
    return sum(isinstance(event, VideoProcessed) and event.epoch == first for event in events)


async def test_a_slow_engine_stays_live_and_every_frame_it_leaves_out_is_named(
    planes: Planes, server_urls: tuple[str, str]
) -> None:
    """As set by default: an 80 ms engine under 20 fps works on the newest frame, reports what it passed over first."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    with workers(Kind.VIDEO, 1, server_urls, cost_ms=80, sessions=1, settings={}):
        await live.create()
        await until(lambda: _claimed(live), what="session claimed")
        publishing = asyncio.create_task(live.publish(seconds=60))
        await until(lambda: live.published(40), what="40 frames")
        live.stopped = True
        await publishing
        await until(live.settled, what="every input settled")
    await live.assert_one_outcome_each()
    reports = await live.reports()
    assert [report.input for report in reports] == sorted(live.sent), "an outcome was reported before an older one"
    passed = [report for report in reports if isinstance(report.outcome, VideoProcessed)]
    reasons = [report.outcome.reason for report in reports if isinstance(report.outcome, VideoDropped)]
    assert await live.outputs() == [report.input for report in passed]
    assert reasons.count(DropReason.SUPERSEDED) >= 5
    # How long a frame waited is counted in frames that were finished meanwhile, so that a slow machine changes nothing.
    waited = [sum(report.input.ms < other.id.ms < report.id.ms for other in passed) for report in passed]
    assert max(waited) <= 2, f"first in, first out would be at a dozen by now: {waited}"


async def test_nothing_is_published_once_a_session_is_over_however_long_its_input_flows(
    planes: Planes, server_urls: tuple[str, str]
) -> None:
    """Ended, revoked, expired or abandoned: input that comes later is settled as `ended`, and the work retired."""
    store = SessionStore(planes)
    ended, revoked, expired, abandoned = lives = [Live(Kind.VIDEO, planes, store) for _ in range(4)]
    identity = f"face of {revoked.sid}"
    reasons = ("test over", "consent_revoked", "consent_expired", "idle")
    with workers(Kind.VIDEO, 1, server_urls, cost_ms=4, sessions=4):
        for live in lives:
            await live.create(faces=(identity,) if live is revoked else ())
        await until(everyone(lives, _claimed), what="sessions claimed")
        publishing = asyncio.gather(*(live.publish(seconds=60, per_s=40) for live in lives))
        await until(everyone(lives, lambda live: live.published(5)), what="first frames")
        now_ms = await planes.events.now_ms()
        assert await store.end(ended.sid, "test over")
        assert await store.end_wearing(identity) == [revoked.sid]
        await store.limit(expired.sid, expires_ms=now_ms)
        await store.touch(abandoned.sid, deadline_ms=now_ms)
        await until(everyone(lives, lambda live: _settled_as_ended(live, 5)), what="input flows on after the end")
        for live in lives:
            live.stopped = True
        await publishing
        await until(everyone(lives, Live.retired), what="work entries retired")
    for live, reason in zip(lives, reasons, strict=True):
        counted = await live.outcomes()
        settled = live.sent[: len(counted)]  # what comes when the work is retired is nobody's
        assert counted == Counter(settled), "missing, invented or doubled outcomes"
        left_out = [report.input for report in await live.reports() if _is_ended(report.outcome)]
        assert left_out == settled[-len(left_out) :], "something was worked on after the end"
        assert await live.outputs() == settled[: -len(left_out)], f"published after the session was over: {reason}"
        assert (await store.load(live.sid)).ended == reason


async def _settled_as_ended(live: Live, count: int) -> bool:
    return sum(_is_ended(report.outcome) for report in await live.reports()) >= count


def _is_ended(outcome: Outcome) -> bool:
    return isinstance(outcome, VideoDropped) and outcome.reason is DropReason.ENDED
