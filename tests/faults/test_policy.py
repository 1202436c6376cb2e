"""Real policy services are killed and frozen while metrics flow: the decisions are those of one uninterrupted fold."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from ops.tether import command
from policy.driver import Driver
from schemas.bus.base import Planes
from schemas.decisions import Abandon, policy_decisions
from schemas.events import EVENT, FrameRejected
from schemas.ids import EntryId
from schemas.message import encode
from schemas.names import Kind
from schemas.session_store import ABANDONED, SessionStore
from tests.faults.harness import LEASE_MS, Live, Worker
from tests.policy.simulator.load import Slow, VideoCost
from tests.policy.simulator.run import Scenario, run
from tests.policy.simulator.session import Client
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.faults

BATCH = 8


@contextmanager
def services(count: int, urls: tuple[str, str], folder: Path) -> Iterator[list[Worker]]:
    """Run `mirage worker policy` processes; nothing survives the block."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")} | {
        "MIRAGE_REDIS_URL": urls[0],
        "MIRAGE_EVENTS_URL": urls[1],
        "MIRAGE_LEASE_MS": str(LEASE_MS),
        "MIRAGE_DATA_DIR": str(folder),
        "MIRAGE_LOG_LEVEL": "error",
    }
    argv = command([sys.executable, "-m", "ops.cli", "worker", "policy"])
    started = [Worker(subprocess.Popen(argv, env=environ)) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.wait()


@pytest.fixture(scope="module")
def metrics() -> list[bytes]:
    """Return some thousand events of a session that is loaded, late and taken over: every fourth decides something."""
    client = Client(video=VideoCost(fixed_us=20_000, area_us=30_000, behind_us=220_000))
    (seen,) = run(Scenario(minutes=3, clients=(client,), slow=[Slow(3000, 40, 30)], deaths_s=(100,)))
    events = [data for _, data in seen.session.recorded[1:]]  # creating the session writes the first one
    assert len(events) > 3_000
    assert len(seen.decided) > 300
    return events


@pytest.fixture
async def live(planes: Planes) -> Live:
    session = Live(Kind.POLICY, planes, SessionStore(planes))
    await session.create()
    return session


async def feed(live: Live, events: Sequence[bytes], *, per_s: int = 500) -> None:
    """Append metrics as producers do, several in a round trip, at a steady pace."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for n in range(0, len(events), BATCH):
        await asyncio.sleep(max(0.0, start + n / per_s - loop.time()))
        batch = [{EVENT: data} for data in events[n : n + BATCH]]
        await live.planes.events.append_all(live.keys.metrics, batch)


class Feeding:
    """Feeds in the background, until the faults of a test are over and their heirs have decided something."""

    def __init__(self, live: Live, events: Sequence[bytes]) -> None:
        self._live, self._task = live, asyncio.create_task(feed(live, events))

    async def end(self) -> None:
        """Stop; whatever stands on the stream by then counts."""
        if not self._task.done():
            count = await self._live.planes.events.length(self._live.keys.policy) + 20
            await until(lambda: _either(self._task, reached(self._live, count)), what="decisions of the last owner")
            self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


async def _either(task: asyncio.Task[None], holds: Awaitable[bool]) -> bool:
    return await holds or task.done()


async def decided(live: Live) -> list[tuple[EntryId, bytes]]:
    """Return the decisions that stand, as bytes."""
    return [(entry.id, entry.fields[EVENT]) for entry in await live.planes.events.entries(live.keys.policy)]


async def expected(live: Live) -> list[tuple[EntryId, bytes]]:
    """Return what one uninterrupted fold of the session's metrics decides."""
    driver = Driver()
    return [
        (decision_id, encode(decision))
        for entry in await live.planes.events.entries(live.keys.metrics)
        for decision_id, decision in driver.fold(entry.id, entry.fields[EVENT])
    ]


async def reached(live: Live, count: int) -> bool:
    return await live.planes.events.length(live.keys.policy) >= count


async def owner(live: Live, pool: Sequence[Worker]) -> Worker:
    """Return the process that holds the session."""
    pid = int((await live.took())[-1].split("-")[-2])
    return next(worker for worker in pool if worker.process.pid == pid)


async def taken_over(live: Live, owners: int) -> None:
    async def by_another() -> bool:
        return len(set(await live.took())) >= owners

    await until(by_another, what=f"owner number {owners}")


async def assert_as_one_fold(live: Live, pool: Sequence[Worker]) -> None:
    """Wait until everything is folded; then drain everybody, and compare byte for byte."""
    want = await expected(live)
    await until(lambda: reached(live, len(want)), what="every decision")
    for worker in pool:
        worker.send(signal.SIGCONT)
        worker.send(signal.SIGTERM)
    for worker in pool:
        await asyncio.to_thread(worker.process.wait, PATIENCE_S)
    found = await decided(live)
    assert len(found) == len(want), "missing or invented decisions"
    assert found == want
    assert len({decision_id for decision_id, _ in found}) == len(found)


@pytest.mark.parametrize("seed", [1, 2])
async def test_services_that_are_killed_decide_what_one_would_have(
    live: Live, server_urls: tuple[str, str], tmp_path: Path, metrics: list[bytes], seed: int
) -> None:
    """Kill -9 four times: after so many decisions as the seed says, the moment that the next one is seen."""
    random = Random(seed)
    with services(5, server_urls, tmp_path) as pool:
        await taken_over(live, 1)
        feeding = Feeding(live, metrics)
        for killed in range(1, 5):
            count = await live.planes.events.length(live.keys.policy) + random.randint(1, 40)
            await until(lambda count=count: reached(live, count), what="decisions")  # type: ignore[misc]
            last = await live.planes.events.last_id(live.keys.policy)
            victim = await owner(live, pool)
            await live.planes.events.read({live.keys.policy: last}, count=1, block_ms=500)
            victim.send(signal.SIGKILL)
            await taken_over(live, killed + 1)
        await feeding.end()
        await assert_as_one_fold(live, pool)


async def test_a_service_that_died_long_before_its_snapshot_was_written_is_continued(
    live: Live, server_urls: tuple[str, str], tmp_path: Path, metrics: list[bytes]
) -> None:
    """An old snapshot is put back after the kill: its successor decides again what stands already, to the byte."""
    with services(2, server_urls, tmp_path) as pool:
        await taken_over(live, 1)
        feeding = Feeding(live, metrics)
        await until(lambda: reached(live, 20), what="decisions")
        old = await live.planes.events.get(live.keys.snapshot)
        await until(lambda: reached(live, 60), what="decisions after that snapshot")
        (await owner(live, pool)).send(signal.SIGKILL)
        await live.planes.events.put(live.keys.snapshot, old)
        await taken_over(live, 2)
        await feeding.end()
        await assert_as_one_fold(live, pool)


async def test_a_service_that_was_frozen_past_its_lease_writes_nothing_more(
    live: Live, server_urls: tuple[str, str], tmp_path: Path, metrics: list[bytes]
) -> None:
    """Stopped in the middle, it wakes as a zombie while its successor works, and is fenced off."""
    with services(2, server_urls, tmp_path) as pool:
        await taken_over(live, 1)
        feeding = Feeding(live, metrics)
        await until(lambda: reached(live, 20), what="decisions")
        frozen = await owner(live, pool)
        frozen.send(signal.SIGSTOP)
        await taken_over(live, 2)
        count = await live.planes.events.length(live.keys.policy)
        await until(lambda: reached(live, count + 20), what="decisions of the successor")
        frozen.send(signal.SIGCONT)
        await feeding.end()
        assert (await owner(live, pool)) is not frozen
        await assert_as_one_fold(live, pool)


async def test_a_session_that_was_given_up_ends_though_the_service_died_right_then(
    live: Live, server_urls: tuple[str, str], tmp_path: Path, metrics: list[bytes]
) -> None:
    """The owner is killed on sight of the abandon; whatever it had done by then, the session has ended by that name."""
    rejected = [encode(FrameRejected(producer="conn", seq=seq, media="video", reason="bad_jpeg")) for seq in range(61)]
    with services(2, server_urls, tmp_path) as pool:
        await taken_over(live, 1)
        await feed(live, metrics[:400])
        before = await expected(live)
        await until(lambda: reached(live, len(before)), what="decisions before")
        victim, last = await owner(live, pool), await live.planes.events.last_id(live.keys.policy)
        await live.planes.events.append_all(live.keys.metrics, [{EVENT: data} for data in rejected])
        while not await live.planes.events.read({live.keys.policy: last}, count=1, block_ms=500):
            pass
        victim.send(signal.SIGKILL)
        await until(lambda: ended(live), what="the end of the session")
        await until(live.retired, what="work entry retired")
        assert (await live.store.load(live.sid)).ended == ABANDONED
        await assert_as_one_fold(live, pool)
    decisions = [policy_decisions.decode(data) for _, data in await decided(live)]
    assert [isinstance(decision, Abandon) for decision in decisions] == [False] * len(before) + [True]


async def ended(live: Live) -> bool:
    return (await live.store.load(live.sid)).ended is not None
