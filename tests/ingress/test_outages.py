"""A plane that goes away: clients are told, connections live, and everything goes on when it is back."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from ingress.metrics import EventWriter
from ingress.settings import IngressSettings
from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from schemas.bus.base import Planes
from schemas.bus.memory import MemoryBus
from schemas.bus.redis import RedisBus
from schemas.errors import BusUnavailable
from schemas.events import EVENT, ConsentRevoked, metric_events
from schemas.facts import PanicSet, control_facts
from schemas.names import SessionKeys
from schemas.wire import MediaType
from tests.ingress.client import Service, echo, serve
from tests.waiting import PATIENCE_S, until


class Server:
    """A server that comes back at the same address: a link to the socket that it has at the time."""

    def __init__(self, folder: Path, links: Path, name: str) -> None:
        self._server = EmbeddedServer(find_binary(None), folder / name, ServerOptions(name, durable=name == "events"))
        self._link = links / name
        self.url = f"unix://{self._link}"

    def start(self) -> None:
        """Start."""
        self._server.start()
        self._link.symlink_to(self._server.url.removeprefix("unix://"))

    def stop(self) -> None:
        """Stop; a server that is stopped already stays so."""
        self._server.stop()
        self._link.unlink(missing_ok=True)


@dataclass
class Installation:
    """An ingress with servers of its own."""

    service: Service
    media: Server
    events: Server


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    """Run an ingress on two servers that a test may stop and start."""
    with tempfile.TemporaryDirectory() as short:  # a socket's path may not be long
        media, events = (Server(tmp_path, Path(short), name) for name in ("media", "events"))
        media.start()
        events.start()
        planes = Planes(RedisBus(media.url), RedisBus(events.url))
        try:
            async with serve(planes, IngressSettings(tick_s=0.1)) as service:
                yield Installation(service, media, events)
        finally:
            await planes.close()
            media.stop()
            events.stop()


async def test_frames_are_lost_and_told_while_the_media_plane_is_away(installation: Installation) -> None:
    """The media plane comes back empty, without the publisher's epoch: the same connection goes on."""
    service = installation.service
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await socket.frame(0)

    async def published() -> bool:
        return bool(await service.inputs(sid, MediaType.VIDEO))

    await until(published, what="a frame before")
    installation.media.stop()
    for i in range(1, 6):
        await socket.frame(i * 50_000)
    await socket.until(lambda: "bus_unavailable" in socket.errors(), what="error")
    told = socket.told("error")[0]
    assert "messages were lost" in told["detail"]
    assert told["retry_after_ms"] > 0
    installation.media.start()
    async with echo(service.planes, sid):
        frames = count(6)

        async def shown() -> bool:
            n = next(frames)
            await socket.frame(n * 50_000, seq=n)
            return bool(socket.pictures())

        await until(shown, what="a frame after")
    assert socket.code is None


async def test_panic_works_without_the_events_plane_and_is_written_when_it_is_back(installation: Installation) -> None:
    service = installation.service
    sid, token = await service.session()
    socket = await service.open(sid, token)
    installation.events.stop()
    await socket.say(type="panic", on=True)
    await socket.say(type="settings", face="x")  # answered after panic has been taken
    await socket.until(lambda: "bus_unavailable" in socket.errors(), what="refusal")
    async with echo(service.planes, sid):
        await socket.frame(0)

        async def out() -> bool:
            return bool(await service.planes.media.entries(SessionKeys(sid).video_out))

        await until(out, what="an output on the stream")
        installation.events.start()

        async def written() -> bool:
            try:
                entries = await service.planes.events.entries(SessionKeys(sid).control)
            except BusUnavailable:
                return False
            return PanicSet(on=True) in [control_facts.decode(entry.fields[EVENT]) for entry in entries]

        await until(written, what="the fact")
    assert not socket.media
    assert socket.code is None


class Stalling(MemoryBus):
    """Refuses batches while `down`."""

    down = True

    async def append_all(self, stream: str, batch: object) -> None:
        """See `Bus.append_all`."""
        if self.down:
            raise BusUnavailable("down")
        await super().append_all(stream, batch)  # type: ignore[arg-type]


async def test_events_wait_in_order_for_their_plane() -> None:
    bus = Stalling()
    writer = EventWriter(bus)
    running = asyncio.create_task(writer.run())
    for i in range(20):
        writer.put("ab"[i // 15], ConsentRevoked(identity=str(i)))
    await asyncio.sleep(0)
    bus.down = False

    async def written() -> bool:
        return await bus.length("a") == 15 and await bus.length("b") == 5

    await until(written, what="events")
    running.cancel()
    found = [metric_events.decode(entry.fields[EVENT]) for entry in await bus.entries("a")]
    assert found == [ConsentRevoked(identity=str(i)) for i in range(15)]


async def test_many_commands_at_once_and_cancelled_ones_leave_the_bus_well(server_urls: tuple[str, str]) -> None:
    """What ingress relies on: 300 commands at a time, and tasks that end when they are cancelled, whatever they do."""
    bus = RedisBus(server_urls[0])
    await asyncio.gather(*(bus.now_ms() for _ in range(300)))

    async def busy() -> None:
        while True:
            await bus.now_ms()

    for i in range(200):
        task = asyncio.create_task(busy())
        await asyncio.sleep(i * 1e-5)
        task.cancel()
        _, pending = await asyncio.wait([task], timeout=PATIENCE_S)
        assert not pending, "a cancellation was lost"
    await bus.close()
