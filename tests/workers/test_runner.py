"""The runner: one owner a session, whoever wakes late, dies or breaks; nothing lost on the way."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from ops.bench.passthrough import PassthroughConverter
from schemas.bus.base import Bus, Planes, WorkEntry
from schemas.bus.memory import MemoryBus
from schemas.bus.redis import RedisBus
from schemas.clock import SystemClock
from schemas.events import DropReason, VideoDropped
from schemas.ids import EntryId
from schemas.media import MediaEntry
from schemas.names import Kind, work
from schemas.session_store import SessionStore
from schemas.task import Lease, SessionTask, TaskFactory
from tests.faults.harness import Live, everyone, failing
from tests.waiting import until
from workers.engine_thread import EngineThread
from workers.freshness import Limits, Order
from workers.media_task import Converted, MediaTask
from workers.runner import Runner
from workers.runner_session import SessionService
from workers.runner_settings import RunnerSettings

SHORT = RunnerSettings(lease_ms=900, beat_ms=150, poll_ms=50, check_ms=100)
LONG = RunnerSettings(lease_ms=60_000, beat_ms=150, poll_ms=50, check_ms=100)


@pytest.fixture(params=["memory", "server"])
async def planes(request: pytest.FixtureRequest, server_urls: tuple[str, str]) -> AsyncIterator[Planes]:
    """Return one bus for both planes, or one server for each; no work is left from other tests."""
    if request.param == "memory":
        bus: Bus = MemoryBus()
        planes = Planes(bus, bus)
    else:
        planes = Planes(*map(RedisBus, server_urls))
    await planes.events.delete(work(kind) for kind in Kind)
    yield planes
    await planes.close()


class Poison(PassthroughConverter):
    """Fails on every frame."""

    async def convert(self, entry: MediaEntry) -> Converted:
        raise RuntimeError(f"cannot work on {entry.id}")


def factory(converter: Callable[[Lease], PassthroughConverter] | None = None) -> TaskFactory:
    """Return the maker of tasks that keep every frame and pass it through, or do as `converter` does."""
    thread = EngineThread()

    def make(lease: Lease) -> SessionTask:
        made = converter(lease) if converter else PassthroughConverter(lease, thread=thread, cost_s=0.002)
        return MediaTask(lease, made, limits=Limits(Order.FIFO, 60_000), retention_ms=60_000)

    return make


@asynccontextmanager
async def running(
    planes: Planes, name: str, *, tasks: TaskFactory | None = None, settings: RunnerSettings = SHORT
) -> AsyncIterator[tuple[Runner, asyncio.Event]]:
    """Run a runner; in the end it is asked to stop, and must."""
    runner = Runner(
        Kind.VIDEO,
        worker=name,
        planes=planes,
        sessions=SessionStore(planes),
        factory=tasks or factory(),
        clock=SystemClock(),
        settings=settings,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(runner.run(stop))
    try:
        yield runner, stop
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await task
    assert runner.holding == []


def service(planes: Planes, name: str, entry: WorkEntry) -> SessionService:
    """Return the drive of one claimed session, by a worker that believes it has just claimed it."""
    return SessionService(
        Kind.VIDEO,
        entry,
        worker=name,
        planes=planes,
        sessions=SessionStore(planes),
        factory=factory(),
        clock=SystemClock(),
        settings=SHORT,
    )


async def entry_of(live: Live) -> WorkEntry:
    found = await live.planes.events.entries(work(live.kind))
    return next(WorkEntry(entry.id, live.sid) for entry in found if entry.fields[b"sid"] == live.sid.encode())


async def flowing(live: Live) -> None:
    """Return when some more frames came out."""
    count = len(await live.outputs()) + 8
    await until(lambda: live.published(count), within_s=5, what="frames flow")


async def test_a_late_claimer_gives_up_and_the_true_owner_goes_on(planes: Planes) -> None:
    """It was taken over from between its claim and its epoch: the epoch it raises fences the true owner off.

    The stranger finds that the lease is another's, and says nothing; the owner finds that it is still its own, raises
    the epoch again and goes on where it was, long before its lease could run out.
    """
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    async with running(planes, "owner", settings=LONG):
        publishing = asyncio.create_task(live.publish(seconds=60, per_s=50))
        for n in range(3):
            await flowing(live)
            async with asyncio.timeout(2):
                await service(planes, f"late {n}", await entry_of(live)).run()
        await flowing(live)
        live.stopped = True
        await publishing
        await until(live.settled, within_s=5, what="every input settled")
        assert set(await live.took()) == {"owner"}
        epochs = [owner.epoch for owner in await live.owners()]
        assert len(epochs) == 4
        assert epochs == sorted(set(epochs))
        await live.assert_nothing_lost_doubled_or_reordered()
    await live.store.end(live.sid, "test over")


async def test_a_late_claimer_says_nothing_even_when_the_new_owner_is_slower_than_it(planes: Planes) -> None:
    """The new owner has the lease but has raised no epoch yet: nothing fences the late one but its own look."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    entry = await planes.events.claim(Kind.VIDEO, "late")
    assert entry
    assert await planes.events.take_over(Kind.VIDEO, "new", idle_ms=0) == entry
    await live.publish(seconds=0.2, per_s=50)
    async with asyncio.timeout(2):
        await service(planes, "late", entry).run()
    assert await live.took() == []
    assert await live.outputs() == []
    await live.store.end(live.sid, "test over")


async def test_an_owner_that_lost_its_lease_lets_go_at_its_next_beat(planes: Planes) -> None:
    """Also without a publication to be fenced at; nobody steals back what was taken over."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    async with running(planes, "owner") as (owner, _):
        await until(lambda: _holds(owner, live), within_s=5, what="session claimed")
        taken = await planes.events.take_over(Kind.VIDEO, "other", idle_ms=0)
        assert taken
        assert taken.sid == live.sid

        async def let_go() -> bool:
            return live.sid not in owner.holding

        await until(let_go, within_s=2, what="the old owner lets go")
        assert await planes.events.beat(Kind.VIDEO, "other", [taken.id]) == {taken.id}
    await live.store.end(live.sid, "test over")


async def _holds(runner: Runner, live: Live) -> bool:
    return live.sid in runner.holding and bool(await live.took())


class SlowBeats:
    """A bus that answers claims at once and beats late."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.delay_s = 0.0

    def __getattr__(self, name: str) -> Any:
        """Return the bus's method."""
        return getattr(self._bus, name)

    async def beat(self, kind: Kind, worker: str, held: Sequence[EntryId]) -> set[EntryId]:
        await asyncio.sleep(self.delay_s)
        return await self._bus.beat(kind, worker, held)


@pytest.mark.parametrize("delay_s", [0.1, 60])
async def test_after_a_suspension_a_claim_that_is_answered_before_a_beat_takes_nothing(
    planes: Planes, delay_s: float
) -> None:
    """All of the machine slept, so every lease looks expired: whoever wakes first waits for the owners to beat."""
    store = SessionStore(planes)
    first, second = lives = [Live(Kind.VIDEO, planes, store) for _ in range(2)]
    await first.create()
    lease = await planes.events.claim(Kind.VIDEO, "owner")
    assert lease
    beats = SlowBeats(planes.events)
    async with running(Planes(planes.media, cast("Bus", beats)), "idle") as (idle, _):
        await second.create()
        await until(lambda: _holds(idle, second), within_s=5, what="second session claimed")
        beats.delay_s = delay_s
        for _ in range(4):
            assert await planes.events.beat(Kind.VIDEO, "owner", [lease.id]) == {lease.id}
            await asyncio.sleep(0.1)
        time.sleep(1.2)  # noqa: ASYNC251 - the suspension: nothing in this process runs
        await asyncio.sleep(0.4)
        assert await planes.events.beat(Kind.VIDEO, "owner", [lease.id]) == {lease.id}
        assert idle.holding == [second.sid]
        beats.delay_s = 0.0
        # The owner does not come back: once the lease has run out again, its session is taken over.
        await until(lambda: _holds(idle, first), within_s=5, what="first session taken over")
    for live in lives:
        await store.end(live.sid, "test over")


async def test_a_drained_session_is_taken_over_at_once_however_long_the_lease(planes: Planes) -> None:
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    async with running(planes, "first", settings=LONG) as (first, stop):
        await until(lambda: _holds(first, live), within_s=5, what="session claimed")
        async with running(planes, "second", settings=LONG) as (second, _):
            publishing = asyncio.create_task(live.publish(seconds=60, per_s=50))
            await flowing(live)
            stop.set()
            await until(lambda: _holds(second, live), within_s=3, what="handed over")
            await flowing(live)
            live.stopped = True
            await publishing
            await until(live.settled, within_s=5, what="every input settled")
            assert await live.took() == ["first", "second"]
            await live.assert_nothing_lost_doubled_or_reordered()
    await live.store.end(live.sid, "test over")


async def test_a_poisoned_session_costs_nobody_else_anything(planes: Planes) -> None:
    """Every frame of it fails: each is dropped by name, the worker lives, and its other session never notices."""
    store = SessionStore(planes)
    poisoned, healthy = lives = [Live(Kind.VIDEO, planes, store) for _ in range(2)]
    thread = EngineThread()

    def converter(lease: Lease) -> PassthroughConverter:
        made = Poison if lease.keys.sid == poisoned.sid else PassthroughConverter
        return made(lease, thread=thread, cost_s=0.001)

    async with running(planes, "worker", tasks=factory(converter)) as (worker, _):
        for live in lives:
            await live.create()
        await asyncio.gather(*(live.publish(seconds=1, per_s=40) for live in lives))
        await until(everyone(lives, Live.settled), within_s=5, what="every input settled")
        assert sorted(worker.holding) == sorted(live.sid for live in lives)
        await poisoned.assert_one_outcome_each()
        await healthy.assert_nothing_lost_doubled_or_reordered()
        assert await poisoned.outputs() == []
        outcomes = [report.outcome for report in await poisoned.reports()]
        assert {event.reason for event in outcomes if isinstance(event, VideoDropped)} == {DropReason.ENGINE}
        assert len(outcomes) == len(poisoned.sent)
        assert [await live.took() for live in lives] == [["worker"], ["worker"]]
        for live in lives:
            await store.end(live.sid, "test over")
        await until(everyone(lives, Live.retired), within_s=5, what="work entries retired")
    thread.close()


async def test_a_task_that_fails_costs_one_session_a_takeover_and_the_worker_nothing(planes: Planes) -> None:
    """A defect in the task itself, not in the engine: the session is handed over and begun again."""
    store = SessionStore(planes)
    broken, healthy = lives = [Live(Kind.VIDEO, planes, store) for _ in range(2)]
    plain, made = factory(), [0]

    def once_broken(lease: Lease) -> SessionTask:
        if lease.keys.sid == broken.sid:
            made[0] += 1
            if made[0] == 1:
                raise RuntimeError("a defect")
        return plain(lease)

    async with running(planes, "worker", tasks=once_broken):
        for live in lives:
            await live.create()
        await asyncio.gather(*(live.publish(seconds=1, per_s=40) for live in lives))
        await until(everyone(lives, Live.settled), within_s=5, what="every input settled")
        for live in lives:
            await live.assert_nothing_lost_doubled_or_reordered()
        assert (len(await broken.took()), len(await healthy.took())) == (2, 1)
    for live in lives:
        await store.end(live.sid, "test over")


async def test_a_session_whose_watch_died_is_begun_again_with_a_new_one(planes: Planes) -> None:
    """Nothing is published unobserved, and a passing defect costs a moment, not the session."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    blind = Planes(planes.media, failing(planes.events, "read", RuntimeError("a defect in the watch"), skip=2))
    async with running(blind, "worker"):
        await live.create()
        publishing = asyncio.create_task(live.publish(seconds=60, per_s=50))
        await flowing(live)
        assert await live.store.end(live.sid, "consent_revoked")
        over_ms = await planes.media.now_ms()

        async def flowed_on() -> bool:
            return bool(live.sent) and live.sent[-1].ms > over_ms + 800

        await until(flowed_on, within_s=5, what="input flows on after the end")
        live.stopped = True
        await publishing
        await until(live.retired, within_s=5, what="work retired")
    assert len(await live.took()) == 2
    await live.assert_one_outcome_each()
    assert max(await live.outputs()) <= EntryId(over_ms + 500, 0)


async def test_a_session_that_ended_while_nobody_held_it_leaves_no_input_without_an_outcome(planes: Planes) -> None:
    """A worker that comes later publishes nothing of it, names every input as `ended`, and retires the work."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    await live.publish(seconds=0.5)
    await live.store.end(live.sid, "test")
    async with running(planes, "late"):
        await until(live.retired, within_s=5, what="retired")
    counted = await live.outcomes()
    assert dict(counted) == dict.fromkeys(live.sent, 1)
    assert await live.outputs() == []


async def test_a_session_that_is_over_and_cannot_be_settled_is_retired_all_the_same(planes: Planes) -> None:
    class Unsettling(PassthroughConverter):
        async def open(self) -> None:
            raise RuntimeError("no engine")

    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    await live.store.end(live.sid, "test")
    thread = EngineThread()
    broken = factory(lambda lease: Unsettling(lease, thread=thread, cost_s=0.0))
    async with running(planes, "late", tasks=broken):
        await until(live.retired, within_s=5, what="retired")


async def test_the_shortest_lease_that_can_be_set_leaves_time_to_take_over(planes: Planes) -> None:
    """Half of it is no longer than the wait between two polls, which must not be taken for a stall."""
    live = Live(Kind.VIDEO, planes, SessionStore(planes))
    await live.create()
    assert await planes.events.claim(Kind.VIDEO, "dead")
    async with running(planes, "heir", settings=RunnerSettings(lease_ms=300, beat_ms=50)) as (heir, _):
        await until(lambda: _holds(heir, live), within_s=10, what="session taken over")
    await live.store.end(live.sid, "test over")
