"""The media task: one outcome an input, in order, whatever dies, ends or breaks around it."""

import asyncio
from dataclasses import replace

import pytest

from schemas.bus.base import Entry
from schemas.bus.redis import RedisBus
from schemas.decisions import DropVideoUntil
from schemas.errors import BusUnavailable, Fenced, InputRejected
from schemas.events import EVENT, DropReason, SessionEnded
from schemas.ids import ZERO, EntryId
from schemas.message import encode
from tests.faults.harness import failing
from tests.waiting import until
from tests.workers.stage import NEWEST, Stage
from workers.freshness import MAX_BURST

AWAY = BusUnavailable("the server died")


@pytest.mark.parametrize("done", [False, True])
async def test_an_output_whose_report_was_cut_off_is_reported_once_by_the_next_owner(
    stage: Stage, *, done: bool
) -> None:
    """The server dies as the outcome of a published frame is appended; the append may have taken effect or not."""
    first, _ = await stage.task(events=failing(stage.bus, "append_all", AWAY, skip=2, done=done))
    assert await first.resume() == ZERO
    with pytest.raises(BusUnavailable):
        await first.handle(await stage.frames(10, 20, 30))
    assert await stage.outputs() == [10, 20]
    second, converter = await stage.task()
    assert await second.resume() == EntryId(20, 0)
    epochs = [epoch for _, _, epoch in await stage.reports()]
    assert await stage.became() == [(10, "published"), (20, "published")]
    assert (epochs[0] == epochs[1]) == done, "what the new owner reports, it reports in its own epoch"
    third, _ = await stage.task()
    assert await third.resume() == EntryId(20, 0), "repaired once, it needs no further repair"
    assert len(await stage.reports()) == 2
    await third.handle(await stage.frames(30))
    assert await stage.became() == [(10, "published"), (20, "published"), (30, "published")]
    assert await stage.outputs() == [10, 20, 30]
    assert converter.worked_on == []


async def test_a_publication_that_was_cut_off_is_repeated_by_the_next_owner(stage: Stage) -> None:
    """Nothing is known of an unanswered publish: where it did not take effect, the input is worked on again."""
    first, _ = await stage.task()
    await first.resume()
    await first.handle(await stage.frames(10))
    second, _ = await stage.task(events=failing(stage.bus, "append_all", AWAY, skip=1))
    assert await second.resume() == EntryId(10, 0)
    third, _ = await stage.task()
    assert await third.resume() == EntryId(10, 0)
    frames = await stage.frames(20, 30)
    with pytest.raises(Fenced):
        await second.handle(frames)
    await third.handle(frames)
    assert await stage.became() == [(10, "published"), (20, "published"), (30, "published")]


async def test_a_fenced_owner_publishes_nothing_however_far_it_is_ahead(stage: Stage) -> None:
    first, _ = await stage.task()
    await first.resume()
    second, _ = await stage.task()
    await second.resume()
    frames = await stage.frames(10, 20)
    with pytest.raises(Fenced):
        await first.handle(frames)
    assert await stage.outputs() == []
    assert await stage.became() == []
    await second.handle(frames)
    assert await stage.outputs() == [10, 20]


async def test_no_report_runs_ahead_of_an_older_input_that_is_not_settled(stage: Stage) -> None:
    """The checkpoint is the newest report: what is older and has none would be forgotten by the next owner.

    A floor stands, and an input that cannot be read, which has no media time, lies between two good ones.
    """
    floor = DropVideoUntil(cause="1-0", rule="r", floor_us=5_000)
    await stage.bus.append(stage.keys.policy, {EVENT: encode(floor)})
    first, _ = await stage.task(events=failing(stage.bus, "append_all", AWAY, skip=1))
    await first.resume()
    good, other = await stage.frames(10, 30)
    frames = [good, Entry(EntryId(20, 0), {b"d": b"unreadable"}), other]
    with pytest.raises(BusUnavailable):
        await first.handle(frames)
    second, _ = await stage.task()
    assert await second.resume() == EntryId(10, 0)
    await second.handle(frames[1:])
    assert [ms for ms, _ in await stage.became()] == [10, 20, 30]
    assert await stage.outputs() == [10, 30]


async def test_what_is_superseded_is_reported_before_the_frame_that_superseded_it(stage: Stage) -> None:
    task, converter = await stage.task(limits=NEWEST)
    await task.resume()

    async def work_long(_: int) -> None:
        await asyncio.sleep(0.06)  # more than the 50 ms between two frames

    converter.during = work_long
    await task.handle(await stage.frames(10))
    await task.handle(await stage.frames(20, 30, 40))
    superseded = [(ms, DropReason.SUPERSEDED) for ms in (20, 30)]
    assert await stage.became() == [(10, "published"), *superseded, (40, "published")]
    assert converter.worked_on == [10, 40]


async def test_after_a_takeover_only_the_newest_of_a_backlog_is_worked_on(stage: Stage) -> None:
    """A batch may be a small part of a backlog; how old its inputs are is measured against the stream's newest."""
    task, converter = await stage.task(limits=replace(NEWEST, deadline_ms=400))
    await task.resume()
    backlog = await stage.frames(*range(100, 5_100, 50))
    for start in range(0, len(backlog), 32):  # as the runner reads
        await task.handle(backlog[start : start + 32])
    assert converter.worked_on == [entry.id.ms for entry in backlog[-len(converter.worked_on) :]]
    assert 1 <= len(converter.worked_on) <= MAX_BURST
    assert [ms for ms, _ in await stage.became()] == [entry.id.ms for entry in backlog]


async def test_once_told_that_the_session_is_over_no_input_reaches_the_engine(stage: Stage) -> None:
    task, converter = await stage.task()
    await task.resume()
    task.end()
    await task.handle(await stage.frames(10, 20))
    assert await stage.became() == [(10, DropReason.ENDED), (20, DropReason.ENDED)]
    assert await stage.outputs() == []
    assert converter.worked_on == []


async def test_the_frame_that_the_engine_works_on_when_the_session_ends_is_not_published(stage: Stage) -> None:
    """A revocation does not wait for the frame in hand, and the rest of the batch never reaches the engine."""
    task, converter = await stage.task()
    await task.resume()

    async def revoke(ms: int) -> None:
        if ms == 20:
            await stage.bus.append(stage.keys.control, {EVENT: encode(SessionEnded(reason="consent_revoked"))})

            async def heard() -> bool:
                return task._watch.ended

            await until(heard, within_s=2, what="the watch hears of it")

    converter.during = revoke
    await task.handle(await stage.frames(10, 20, 30))
    assert await stage.became() == [(10, "published"), (20, DropReason.ENDED), (30, DropReason.ENDED)]
    assert await stage.outputs() == [10]
    assert converter.worked_on == [10, 20]


async def test_a_session_that_ended_before_the_task_began_publishes_nothing(stage: Stage) -> None:
    await stage.bus.append(stage.keys.control, {EVENT: encode(SessionEnded(reason="over"))})
    task, converter = await stage.task()
    await task.resume()
    await task.handle(await stage.frames(10))
    assert await stage.became() == [(10, DropReason.ENDED)]
    assert converter.worked_on == []


@pytest.mark.parametrize(
    ("error", "reason"),
    [(InputRejected("no JPEG"), DropReason.INVALID), (ValueError("engine defect"), DropReason.ENGINE)],
)
async def test_an_input_that_the_engine_fails_on_is_dropped_and_the_next_one_converted(
    stage: Stage, error: Exception, reason: DropReason
) -> None:
    task, converter = await stage.task()
    await task.resume()

    async def fail(ms: int) -> None:
        if ms == 20:
            raise error

    converter.during = fail
    await task.handle(await stage.frames(10, 20, 30))
    assert await stage.became() == [(10, "published"), (20, reason), (30, "published")]
    assert await stage.outputs() == [10, 30]


@pytest.mark.parametrize("error", [RuntimeError("a defect in the watch"), MemoryError()])
async def test_nothing_is_published_when_the_watch_has_died(stage: Stage, error: Exception) -> None:
    """Without the watch nobody would hear of a revocation: the task fails, and its successor watches again."""
    first, _ = await stage.task(events=failing(stage.bus, "read", error))
    with pytest.raises(type(error)):  # catching up is a read, too
        await first.resume()
    second, converter = await stage.task(events=failing(stage.bus, "read", error, skip=1))
    await second.resume()

    async def died() -> bool:
        return second._watch._task is not None and second._watch._task.done()

    await until(died, within_s=2, what="the watch dies")
    with pytest.raises(type(error)):
        await second.handle(await stage.frames(10))
    assert await stage.outputs() == []
    assert await stage.became() == []
    assert converter.worked_on == []
    third, _ = await stage.task()
    await third.resume()
    await third.handle(await stage.frames(20))
    assert await stage.outputs() == [20]


async def test_the_watch_outlives_a_server_that_breaks_its_reads_off(server_stage: Stage) -> None:
    """A server unblocks readers with an error when it changes its role; the next revocation is heard all the same."""
    stage, bus = server_stage, server_stage.bus
    assert isinstance(bus, RedisBus)
    task, _ = await stage.task()
    await task.resume()

    async def blocked() -> list[int]:
        clients = await bus._client.client_list()
        return [int(client["id"]) for client in clients if "b" in client["flags"] and client["cmd"] == "xread"]

    async def waits() -> bool:
        return bool(await blocked())

    for n in range(3):
        await until(waits, within_s=3, what="the watch reads")
        for client in await blocked():
            await bus._client.client_unblock(client, error=True)
        await task.handle(await stage.frames(10 * n + 10))
    assert await stage.outputs() == [10, 20, 30], "the session goes on"
    await bus.append(stage.keys.control, {EVENT: encode(SessionEnded(reason="consent_revoked"))})

    async def heard() -> bool:
        return task._watch.ended

    await until(heard, within_s=3, what="the watch hears of the end")
    await task.handle(await stage.frames(40))
    assert await stage.outputs() == [10, 20, 30]


async def test_a_watch_that_stays_blind_fails_the_task(stage: Stage) -> None:
    """Its reads are refused, everything else works: two seconds are as long as a revocation may go unheard."""
    task, _ = await stage.task()
    await task.resume()

    async def refused(*_: object, **__: object) -> dict[str, list[Entry]]:
        raise BusUnavailable("too many clients")

    stage.bus.read = refused  # type: ignore[method-assign]

    async def failed() -> bool:
        try:
            await task.handle(await stage.frames(10))
        except BusUnavailable:
            return True
        return False

    await until(failed, within_s=5, what="the task fails")
    await task.close()
