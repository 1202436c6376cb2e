"""Real workers are killed, frozen and drained under live sessions: nothing is lost, doubled or reordered."""

import asyncio
import signal
from collections.abc import Awaitable, Callable

import pytest

from schemas.bus.base import Planes
from schemas.names import Kind
from schemas.session_store import SessionStore
from tests.faults.harness import LEASE_MS, Live, Worker, workers
from tests.waiting import until

pytestmark = pytest.mark.faults

Fault = Callable[[Worker], Awaitable[None]]


async def kill(worker: Worker) -> None:
    worker.send(signal.SIGKILL)


async def freeze(worker: Worker) -> None:
    """Stop it in the middle of a frame, longer than its lease, and let it go on as a zombie."""
    worker.send(signal.SIGSTOP)
    await asyncio.sleep(2.2 * LEASE_MS / 1000)
    worker.send(signal.SIGCONT)


async def drain(worker: Worker) -> None:
    worker.send(signal.SIGTERM)


@pytest.mark.parametrize(
    ("fault", "kind"), [(kill, Kind.VIDEO), (freeze, Kind.VIDEO), (drain, Kind.VIDEO), (kill, Kind.VOICE)]
)
async def test_every_input_has_exactly_one_outcome(
    planes: Planes, server_urls: tuple[str, str], fault: Fault, kind: Kind
) -> None:
    store = SessionStore(planes)
    lives = [Live(kind, planes, store) for _ in range(3)]
    with workers(kind, 1, server_urls, cost_ms=8, sessions=3) as first:
        for live in lives:
            await live.create()

        async def all_claimed() -> bool:
            return all([len(await live.took()) >= 1 for live in lives])

        await until(all_claimed, within_s=15, what="sessions claimed")
        with workers(kind, 1, server_urls, cost_ms=8, sessions=3):
            publishing = asyncio.gather(*(live.publish(seconds=4.5) for live in lives))
            await until(lambda: _published(lives, 20), within_s=10, what="first frames")
            await fault(first[0])
            await publishing

            async def all_settled() -> bool:
                return all([await live.settled() for live in lives])

            await until(all_settled, within_s=15, what="every input settled")
            for live in lives:
                await live.assert_nothing_lost_doubled_or_reordered()
                assert len(set(await live.took())) == 2, "the other worker took the session over"
            if fault is drain:
                assert await asyncio.to_thread(first[0].process.wait, 10) == 0
            for live in lives:
                await store.end(live.sid, "test over")
            await until(lambda: _retired(planes, kind), within_s=10, what="work entries retired")


async def _published(lives: list[Live], count: int) -> bool:
    return all([await live.planes.media.length(live.streams[1]) >= count for live in lives])


async def _retired(planes: Planes, kind: Kind) -> bool:
    return await planes.events.length(f"mirage:work:{{{kind}}}") == 0
