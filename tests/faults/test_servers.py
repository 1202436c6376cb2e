"""Real servers are frozen, killed and filled under live sessions. These tests break servers, so they run their own."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ops.embedded_server import EmbeddedServer
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus
from schemas.errors import BusUnavailable
from schemas.ids import EntryId
from schemas.names import Kind
from schemas.session_store import SessionStore
from tests.faults.harness import LEASE_MS, Live, Worker, everyone, servers, workers
from tests.waiting import until

pytestmark = pytest.mark.faults

Pair = tuple[EmbeddedServer, EmbeddedServer]


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[Pair]:
    """Return (media, events), for this test alone."""
    with servers(tmp_path) as pair:
        yield pair


@pytest.fixture
async def own_planes(own_servers: Pair) -> AsyncIterator[Planes]:
    """Return buses on them."""
    planes = Planes(*(RedisBus(server.url) for server in own_servers))
    yield planes
    await planes.close()


def urls(pair: Pair) -> tuple[str, str]:
    return pair[0].url, pair[1].url


async def _claimed(live: Live) -> bool:
    return len(await live.took()) >= 1


async def test_a_stall_of_the_server_or_of_the_machine_costs_nobody_a_session(
    own_servers: Pair, own_planes: Planes
) -> None:
    """While nothing answers nobody can beat: whoever wakes first gives the owners a lease's time to do so.

    First the events server stalls, then the whole machine is suspended (server and workers), and the idle worker is
    the first to wake.
    """
    events, store = own_servers[1], SessionStore(own_planes)
    lives = [Live(Kind.VIDEO, own_planes, store) for _ in range(2)]

    async def more_frames() -> None:
        count = 5 + max([len(await live.outputs()) for live in lives])
        await until(everyone(lives, lambda live: live.published(count)), what="frames flow")

    with workers(Kind.VIDEO, 1, urls(own_servers), cost_ms=4, sessions=1) as (owner,):
        await lives[0].create()
        await until(lambda: _claimed(lives[0]), what="first session claimed")
        with workers(Kind.VIDEO, 1, urls(own_servers), cost_ms=4, sessions=4) as (idle,):
            await lives[1].create()
            await until(lambda: _claimed(lives[1]), what="second session claimed")
            publishing = asyncio.gather(*(live.publish(seconds=60) for live in lives))
            await more_frames()
            os.kill(events.pid, signal.SIGSTOP)
            await asyncio.sleep(2 * LEASE_MS / 1000)
            os.kill(events.pid, signal.SIGCONT)
            await more_frames()
            await _suspend(events, idle, owner)
            await more_frames()
            await asyncio.sleep(1.3 * LEASE_MS / 1000)  # whoever waits to take over would have done so by now
            for live in lives:
                live.stopped = True
            await publishing
            await until(everyone(lives, Live.settled), what="every input settled")
            for live in lives:
                assert len(set(await live.took())) == 1, "a session changed hands"
                await live.assert_nothing_lost_doubled_or_reordered()


async def _suspend(events: EmbeddedServer, *first_to_wake_first: Worker) -> None:
    """Freeze the server and the workers for two leases; they wake in order, 0.2 s apart."""
    for worker in first_to_wake_first:
        worker.send(signal.SIGSTOP)
    os.kill(events.pid, signal.SIGSTOP)
    await asyncio.sleep(2 * LEASE_MS / 1000)
    os.kill(events.pid, signal.SIGCONT)
    for worker in first_to_wake_first:
        worker.send(signal.SIGCONT)
        await asyncio.sleep(0.2)


@pytest.mark.parametrize("plane", ["media", "events"])
async def test_work_goes_on_when_a_server_was_killed_and_came_back(
    own_servers: Pair, own_planes: Planes, plane: str
) -> None:
    """The media plane comes back empty, the events plane with its data; epochs rise, so what counts goes on counting.

    Media that the media server held is lost with it, and nothing else.
    """
    server = own_servers[0 if plane == "media" else 1]
    live = Live(Kind.VIDEO, own_planes, SessionStore(own_planes))
    with workers(Kind.VIDEO, 1, urls(own_servers), cost_ms=4, sessions=1):
        await live.create()
        await until(lambda: _claimed(live), what="session claimed")
        publishing = asyncio.create_task(live.publish(seconds=60))
        await until(lambda: live.published(10), what="first frames")
        os.kill(server.pid, signal.SIGKILL)
        lost: list[EntryId] = []
        if plane == "media":
            with pytest.raises(BusUnavailable):
                await publishing
            lost, live.sent = live.sent, []
        await asyncio.sleep(0.3)  # the worker finds out
        address = server.url
        await until(lambda: _tended(server), what="server restarted")
        assert server.url == address
        if plane == "media":
            publishing = asyncio.create_task(live.publish(seconds=60))
        count = 20 + (0 if plane == "media" else len(await live.outputs()))
        await until(lambda: live.published(count), what="frames flow again")
        live.stopped = True
        await publishing
        await until(live.settled, what="every input settled")
    await live.assert_nothing_lost_doubled_or_reordered(beside=lost)
    epochs = [owner.epoch for owner in await live.owners()]
    assert len(epochs) >= 2
    assert epochs == sorted(set(epochs)), "an epoch was repeated"


async def _tended(server: EmbeddedServer) -> bool:
    before = server.pid
    server.tend()
    return server.pid != before


async def test_a_full_media_server_takes_media_again_once_retention_lets_go_of_the_old(tmp_path: Path) -> None:
    """A full server refuses before it trims; the refused publish trims, so that the next try finds room."""
    keep_ms, frame = 600_000, {b"d": bytes(40_000)}  # the stream does not expire while this runs
    with servers(tmp_path, media_mb=6) as (media, _):
        bus = RedisBus(media.url)
        try:
            sent_ms = 1_000_000

            async def fill() -> None:
                nonlocal sent_ms
                while True:
                    sent_ms += 1
                    await bus.publish("media", EntryId(sent_ms, 0), frame, keep_ms=keep_ms)

            with pytest.raises(BusUnavailable, match="memory"):
                await fill()
            held = await bus.length("media")
            assert held > 10
            with pytest.raises(BusUnavailable, match="memory"):
                await fill()
            assert await bus.length("media") == held, "live media was given up for newer"

            async def accepted() -> bool:
                try:
                    return await bus.publish("media", EntryId(sent_ms + keep_ms, 0), frame, keep_ms=keep_ms)
                except BusUnavailable:
                    return False

            await until(accepted, what="room again")
            assert await bus.length("media") <= 2
        finally:
            await bus.close()
