"""Sound's part of the media task: what happens around the engine at gaps, changes and takeovers."""

import numpy as np
import pytest

from schemas.bus.base import Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.errors import InputRejected
from schemas.facts import SettingsChanged
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader, pack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from workers.engine_thread import EngineThread
from workers.voice.bypass import KEPT
from workers.voice.engine import Pcm, VoiceOutcome, VoiceResult, VoiceStream
from workers.voice.task import VoiceConverter, fade, samples

CHUNK = 1536  # 96 ms


class Delaying:
    """A stream that only delays, so that what it was fed can be read off its output."""

    lookahead = 512
    context = 3 * CHUNK

    def __init__(self) -> None:
        self.held: Pcm = np.zeros(512, np.int16)
        self.primed: list[int] = []
        self.chunks = 0

    def prime(self, pcm: Pcm) -> None:
        self.primed.append(len(pcm))
        self.process(pcm)

    def process(self, pcm: Pcm) -> VoiceResult:
        self.chunks += 1
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


def chunk(n: int, pts_us: int, value: int, *, voice: str = "on", length: int = CHUNK) -> MediaEntry:
    data = np.full(length, value, "<i2").tobytes()
    return MediaEntry(EntryId(n, 0), MediaHeader(pts_us=pts_us, sent_us=0, voice=voice), data)


async def opened(
    bus: MemoryBus, *, on_voice_fail: str = "silence", voice: str = "worn"
) -> tuple[VoiceConverter, DelayingVoices]:
    keys, engine = SessionKeys("s"), DelayingVoices()
    record = SessionRecord(sid="s", owner="o", voice=voice, created_ms=0, expires_ms=1, on_voice_fail=on_voice_fail)
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
    faded = fade(np.full(200, 1000, np.int16))
    assert faded[0] == 0
    assert faded[39] == 500
    assert (faded[79:] == 1000).all()


def test_a_fade_takes_over_level_and_slope_of_the_sound_before_it() -> None:
    before = np.arange(1000, 1100, 10).astype(np.int16)
    faded = fade(np.zeros(200, np.int16), before).astype(int)
    assert abs(np.diff(np.concatenate((before, faded)), 2)).max() <= 4
    assert (faded[79:] == 0).all()
    loud = fade(np.full(200, 32767, np.int16), np.array([-32768, 32767], np.int16))
    assert (loud[:80] > 0).all(), "full scale does not wrap around"


@pytest.mark.parametrize(
    ("voice", "on_voice_fail", "heard", "outcome"),
    [
        ("on", "silence", True, "converted"),
        ("silent", "silence", False, "silenced"),
        ("silent", "passthrough", False, "silenced"),
        ("through", "passthrough", True, "passed"),
        ("through", "silence", False, "silenced"),
        ("through", "", False, "silenced"),
        ("THROUGH", "passthrough", False, "silenced"),
        ("", "passthrough", False, "silenced"),
    ],
)
async def test_the_header_says_what_becomes_of_a_chunk_and_what_is_not_allowed_is_silenced(
    voice: str, on_voice_fail: str, *, heard: bool, outcome: str
) -> None:
    converter, engine = await opened(MemoryBus(), on_voice_fail=on_voice_fail)
    for n in range(3):
        entry = chunk(n + 1, n * 96_000, 1000, voice=voice)
        done = await converter.convert(entry)
        assert done.header.pts_us == n * 96_000 - 32_000
        assert samples(done.data).any() == heard
        assert len(done.data) == len(entry.data)
        said = converter.processed(entry, runtime_us=5, epoch=1)
        assert (said.outcome, said.pts_us, said.duration_us) == (outcome, n * 96_000 - 32_000, 96_000)
    assert engine.streams[-1].chunks == (3 if voice == "on" else 0), "silence and pass-through cost no inference"


async def test_who_wears_no_voice_is_silent_also_where_a_failed_one_would_go_through() -> None:
    """Taking a voice off asks for silence; the chunks that ingress marks `through` meanwhile know nothing of it."""
    converter, _ = await opened(MemoryBus(), on_voice_fail="passthrough")
    heard = samples((await converter.convert(chunk(1, 0, 1000, voice="through"))).data)
    assert heard.any()
    await converter.change(SettingsChanged(voice=""))
    entry = chunk(2, 96_000, 1000, voice="through")
    off = samples((await converter.convert(entry)).data)
    assert not off[80:].any()
    assert converter.processed(entry, runtime_us=5, epoch=1).outcome == "silenced"
    never, _ = await opened(MemoryBus(), on_voice_fail="passthrough", voice="")
    assert not samples((await never.convert(chunk(1, 0, 1000, voice="through"))).data).any()


async def test_only_sound_that_was_marked_to_pass_ever_passes() -> None:
    """What the lookahead holds back when the mark changes was marked otherwise: silence stands for it."""
    converter, _ = await opened(MemoryBus(), on_voice_fail="passthrough")
    for n, (voice, level) in enumerate([("on", 100), ("through", 200), ("through", 300), ("silent", 400)]):
        done = samples((await converter.convert(chunk(n + 1, n * 96_000, level, voice=voice))).data)
        match n:
            case 1:
                assert not done[80:512].any(), "the end of the chunk before it"
                assert done[592:].tolist() == [200] * (CHUNK - 592)
            case 2:
                assert done.tolist() == [200] * 512 + [300] * 1024
            case 3:
                assert not done[80:].any(), "neither the rest of 300, nor 400"


async def test_output_stays_seamless_in_time_while_lengths_and_marks_change() -> None:
    converter, _ = await opened(MemoryBus(), on_voice_fail="passthrough")
    pts_us, due_us = 0, -32_000
    lengths = (1536, 4096, 2048, 5120, 3072, 2560, 1536, 5120, 512, 1536)
    marks = ("on", "on", "silent", "silent", "on", "through", "through", "on", "silent", "through")
    for n, (length, voice) in enumerate(zip(lengths, marks, strict=True)):
        done = await converter.convert(chunk(n + 1, pts_us, 7, voice=voice, length=length))
        assert done.header.pts_us == due_us
        assert len(samples(done.data)) == length
        pts_us += length * 1_000_000 // 16_000
        due_us += length * 1_000_000 // 16_000


async def test_when_conversion_resumes_the_stream_is_fed_the_newest_of_what_went_by() -> None:
    converter, engine = await opened(MemoryBus())
    await converter.convert(chunk(1, 0, 1))
    for n in range(1, 9):
        await converter.convert(chunk(n + 1, n * 96_000, n + 1, voice="silent"))
    stream = engine.streams[-1]
    assert stream.primed == []
    resumed = samples((await converter.convert(chunk(10, 9 * 96_000, 10))).data)
    assert stream.primed == [KEPT]
    assert resumed[80:512].tolist() == [9] * 432, "what the lookahead holds back is the end of what went by"
    assert resumed[512:].tolist() == [10] * 1024
    again = samples((await converter.convert(chunk(11, 10 * 96_000, 11))).data)
    assert again.tolist() == [10] * 512 + [11] * 1024
    assert stream.primed == [KEPT], "once"


async def test_a_change_of_voice_while_sound_passes_is_not_heard() -> None:
    converter, _ = await opened(MemoryBus(), on_voice_fail="passthrough")
    await converter.convert(chunk(1, 0, 1000, voice="through"))
    await converter.change(SettingsChanged(voice="another"))
    after = samples((await converter.convert(chunk(2, 96_000, 1000, voice="through"))).data)
    assert after.tolist() == [1000] * CHUNK


async def test_a_gap_while_nothing_is_converted_parts_what_is_before_it_from_what_is_after() -> None:
    converter, engine = await opened(MemoryBus(), on_voice_fail="passthrough")
    await converter.convert(chunk(1, 0, 1000, voice="through"))
    after = samples((await converter.convert(chunk(2, 500_000, 2000, voice="through"))).data)
    assert not after[:512].any(), "what was held back is from before the gap"
    assert after[592:].tolist() == [2000] * (CHUNK - 592)
    await converter.convert(chunk(3, 596_000, 3000))
    assert engine.streams[-1].primed == [CHUNK], "what came after the gap"


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
