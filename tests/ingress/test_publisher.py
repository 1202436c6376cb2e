"""What a publishing connection may put on the streams, and from which decisions on: with a clock that tests set."""

from dataclasses import dataclass, field
from itertools import count

import pytest

from ingress.egress import SessionFeed
from ingress.publisher import Publisher, open_publisher
from ingress.settings import IngressSettings
from schemas.bus.base import Bus, Planes
from schemas.bus.memory import MemoryBus
from schemas.decisions import Decision, DropVideoUntil, SetChunk, SetVideo
from schemas.events import EVENT
from schemas.message import encode
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord
from schemas.wire import MediaMessage, MediaType

RECORD = SessionRecord(sid="a" * 32, owner="ada", created_ms=0, expires_ms=1)
KEYS = SessionKeys(RECORD.sid)
BURST = IngressSettings().rates.video_burst


@dataclass
class SetClock:
    """Stands until it is set."""

    monotonic: int = 0
    wall: "count[int]" = field(default_factory=lambda: count(1_000_000))

    def now_ms(self) -> int:
        """Return the next millisecond."""
        return next(self.wall)

    def monotonic_us(self) -> int:
        """Return what was set."""
        return self.monotonic


@dataclass
class Desk:
    """A publisher and what it has put in."""

    publisher: Publisher
    bus: Bus
    clock: SetClock

    async def film(self, times_us: list[int]) -> int:
        """Send a frame of each client time; returns how many went in."""
        before = await self.bus.length(KEYS.video_in)
        for pts_us in times_us:
            await self.publisher.write(MediaMessage(MediaType.VIDEO, pts_us, 0, b"jpeg"))
        return await self.bus.length(KEYS.video_in) - before


def feed_of(bus: Bus, clock: SetClock) -> SessionFeed:
    def never() -> None:
        raise AssertionError("the feed failed")

    return SessionFeed(RECORD, Planes(bus, bus), clock, never)


@pytest.fixture
async def desk() -> Desk:
    bus, clock = MemoryBus(), SetClock()
    publisher = await open_publisher(
        keys=KEYS, media=bus, feed=feed_of(bus, clock), settings=IngressSettings(), clock=clock
    )
    return Desk(publisher, bus, clock)


async def test_a_client_whose_clock_runs_too_fast_gets_no_more_than_the_rate_in_force(desk: Desk) -> None:
    """Its frames are 50 ms apart in its own time, and many times as many in real time."""
    times_us = iter(range(0, 10**9, 50_000))
    assert await desk.film([next(times_us) for _ in range(400)]) == BURST + 1
    for _ in range(5):
        desk.clock.monotonic += 1_000_000
        assert await desk.film([next(times_us) for _ in range(60)]) == 20
    assert desk.publisher.thinned == 400 - BURST - 1 + 5 * 40


async def test_a_client_whose_clock_steps_again_and_again_gets_no_more_either(desk: Desk) -> None:
    times_us = [1_000_000_000 - n * 200_000 for n in range(400)]
    assert await desk.film(times_us) == BURST + 1


async def test_a_client_that_catches_up_after_a_stall_loses_nothing(desk: Desk) -> None:
    """Its frames of five seconds arrive at once."""
    for n in range(0, 1_000, 100):
        desk.clock.monotonic += 5_000_000
        assert await desk.film([(n + i) * 50_000 for i in range(100)]) == 100


async def decide(bus: Bus, *decisions: Decision) -> None:
    await bus.append_all(KEYS.policy, [{EVENT: encode(decision)} for decision in decisions])


async def test_an_ingress_that_comes_late_to_a_long_session_finds_what_is_in_force() -> None:
    bus, clock = MemoryBus(), SetClock()
    floors = [DropVideoUntil(cause="1-0", rule="r", floor_us=n) for n in range(2_500)]
    await decide(bus, SetChunk(cause="1-0", rule="r", chunk_ms=320), *floors)
    await decide(bus, SetVideo(cause="1-0", rule="r", rung=7, quality=55, fps=15, size=256))
    feed = feed_of(bus, clock)
    await feed.start()
    params = feed.in_force.params
    assert (params.chunk_ms, params.rung, params.fps, params.size) == (320, 7, 15, 256)
    await feed.stop()
