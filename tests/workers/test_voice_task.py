"""Sound's part of the media task: what happens around the engine at gaps, changes and takeovers."""

import numpy as np
import pytest

from schemas.bus.base import Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.errors import InputRejected
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader, pack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from workers.engine_thread import EngineThread
from workers.voice.engine import Pcm, VoiceOutcome, VoiceResult, VoiceStream
from workers.voice.task import VoiceConverter, fade_in, samples

CHUNK = 1536  # 96 ms


class Delaying:
    """A stream that only delays, so that what it was fed can be read off its output."""

    lookahead = 512
    context = 3 * CHUNK

    def __init__(self) -> None:
        self.held: Pcm = np.zeros(512, np.int16)
        self.primed: list[int] = []

    def prime(self, pcm: Pcm) -> None:
        self.primed.append(len(pcm))
        self.process(pcm)

    def process(self, pcm: Pcm) -> VoiceResult:
        joined = np.concatenate([self.held, pcm])
        self.held = joined[-512:]
        return VoiceResult(joined[: len(pcm)], VoiceOutcome.CONVERTED)


class DelayingVoices:
    """An engine of such streams."""

    name = "delaying"

    def __init__(self) -> None:
        self.streams: list[Delaying] = []

    def enrol(self, reference: Pcm) -> bytes:
        return reference.tobytes()

    def open(self, template: bytes | None) -> VoiceStream:
        del template
        self.streams.append(Delaying())
        return self.streams[-1]


def chunk(n: int, pts_us: int, value: int) -> MediaEntry:
    data = np.full(CHUNK, value, "<i2").tobytes()
    return MediaEntry(EntryId(n, 0), MediaHeader(pts_us=pts_us, sent_us=0), data)


async def opened(bus: MemoryBus) -> tuple[VoiceConverter, DelayingVoices]:
    keys, engine = SessionKeys("s"), DelayingVoices()
    record = SessionRecord(sid="s", owner="o", created_ms=0, expires_ms=1)
    lease = Lease(Kind.VOICE, keys, record, "w", Fence(keys.epoch, Kind.VOICE, 1), Planes(bus, bus), SystemClock())
    converter = VoiceConverter(lease, engine=engine, thread=EngineThread(), identities=IdentityStore(bus))
    await converter.open()
    return converter, engine


async def test_output_pts_is_that_of_the_sound_in_it() -> None:
    converter, _ = await opened(MemoryBus())
    first = await converter.convert(chunk(1, 0, 5))
    assert first.header.pts_us == -32_000
    assert samples(first.data)[:512].tolist() == [0] * 512
    assert samples(first.data)[512:].tolist() == [5] * 1024


async def test_after_a_gap_no_sound_from_before_it_comes_out_and_the_new_one_fades_in() -> None:
    converter, _ = await opened(MemoryBus())
    await converter.convert(chunk(1, 0, 1000))
    seamless = samples((await converter.convert(chunk(2, 96_000, 1000))).data)
    assert seamless.tolist() == [1000] * CHUNK
    resumed = samples((await converter.convert(chunk(3, 500_000, 2000))).data)
    assert resumed[:512].tolist() == [0] * 512, "what was held back is from before the gap"
    assert resumed[512:].tolist() == [2000] * 1024


def test_the_fade_is_five_milliseconds() -> None:
    faded = fade_in(np.full(200, 1000, np.int16))
    assert faded[0] == 0
    assert faded[40] == 500
    assert (faded[80:] == 1000).all()


async def test_a_takeover_feeds_the_context_and_nothing_after_the_checkpoint() -> None:
    bus = MemoryBus()
    converter, engine = await opened(bus)
    for n in range(1, 7):
        entry = chunk(n, n * 96_000, n)
        await bus.publish(converter.streams[0], entry.id, pack(entry.header, entry.data))
    await converter.prime(EntryId(5, 0))
    assert engine.streams[-1].primed == [3 * CHUNK]
    assert engine.streams[-1].held.tolist() == [5] * 512


@pytest.mark.parametrize("data", [b"\0", bytes(2 * 100), b""])
async def test_a_chunk_off_the_grid_is_rejected(data: bytes) -> None:
    converter, _ = await opened(MemoryBus())
    with pytest.raises(InputRejected):
        await converter.convert(MediaEntry(EntryId(1, 0), MediaHeader(pts_us=0, sent_us=0), data))
