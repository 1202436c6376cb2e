"""Conversion stops and resumes on real speech: nothing clicks, and the sound soon is what it would have been."""

from types import MappingProxyType

import numpy as np
import pytest

from schemas.bus.base import Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from tests.workers.voice.speech import Held
from workers.engine_thread import EngineThread
from workers.voice.analysis import Frames
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, Pcm, VoiceStream
from workers.voice.mapping import VoiceMapping
from workers.voice.measure import click_ratio, leaked_windows
from workers.voice.task import VoiceConverter, samples

CHUNK = 3072
FADE = 80
NATURAL = 14  # `click_ratio`: 99 of 100 places of natural speech stay below


class Unlearning(VoiceMapping):
    """Learns nothing on the way, so that streams which heard different things can be compared."""

    def learn(self, frames: Frames) -> None:
        del frames


class Worn:
    """The engine, with one template for whoever opens a stream."""

    name = "embedded"

    def __init__(self, template: bytes) -> None:
        self._engine, self._template = EmbeddedVoiceEngine(mapping=Unlearning), template

    def enrol(self, reference: Pcm) -> bytes:
        return self._engine.enrol(reference)

    def open(self, template: bytes | None) -> VoiceStream:
        del template
        return self._engine.open(self._template)


async def heard(template: bytes, speech: Pcm, marks: list[str]) -> Pcm:
    """Return what goes out when `speech` comes in, a chunk for each of `marks`."""
    bus, keys = MemoryBus(), SessionKeys("s")
    record = SessionRecord(sid="s", owner="o", voice="worn", created_ms=0, expires_ms=1, on_voice_fail="passthrough")
    lease = Lease(Kind.VOICE, keys, record, "w", Fence(keys.epoch, Kind.VOICE, 1), Planes(bus, bus), SystemClock())
    converter = VoiceConverter(lease, engine=Worn(template), thread=EngineThread(), identities=IdentityStore(bus))
    await converter.open()
    found = []
    for n, mark in enumerate(marks):
        header = MediaHeader(pts_us=n * CHUNK * 1_000_000 // SAMPLE_RATE, sent_us=0, voice=mark)
        data = speech[n * CHUNK : (n + 1) * CHUNK].astype("<i2").tobytes()
        found.append(samples((await converter.convert(MediaEntry(EntryId(n + 1, 0), header, data))).data))
    return np.concatenate(found)


@pytest.mark.parametrize("before", [4, 7, 12, 18])
@pytest.mark.parametrize("mark", ["silent", "through"])
async def test_neither_stopping_nor_resuming_clicks(
    voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes], before: int, mark: str
) -> None:
    """Judged beside the speech alone: next to digital silence, which it also adjoins, any speech is a click."""
    marks = ["on"] * before + [mark] * 6 + ["on"] * 4
    sound = await heard(templates["b"], voices["a"].held_out, marks)
    stop, resume = before * CHUNK, (before + 6) * CHUNK
    assert click_ratio(sound[: stop + FADE], range(stop - 2, stop + FADE - 2)).max() < NATURAL
    if mark == "silent":
        assert not sound[stop + FADE : resume].any()
        swelling = np.concatenate((np.zeros(4, np.int16), sound[resume:]))
        assert click_ratio(swelling, range(2, FADE + 8)).max() < NATURAL
    else:
        assert sound[stop + 512 : resume].any()
        passing = np.concatenate((np.zeros(4, np.int16), sound[stop + 512 : resume]))
        assert click_ratio(passing, range(2, FADE + 8)).max() < NATURAL
        assert click_ratio(sound, range(resume - 2, resume + FADE)).max() < NATURAL


async def test_what_is_converted_after_a_silence_is_what_it_would_have_been_without_one(
    voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> None:
    """Half a second of what went by brings every window and state of the stream up to date: all but the fade agrees."""
    speech, resume = voices["a"].held_out, 32 * CHUNK
    paused = await heard(templates["b"], speech, ["on"] * 20 + ["silent"] * 12 + ["on"] * 12)
    whole = await heard(templates["b"], speech, ["on"] * 44)
    assert whole[resume + FADE :].any()
    assert np.array_equal(paused[resume + FADE :], whole[resume + FADE :])


async def test_nothing_of_the_original_is_heard_while_it_is_silenced(
    voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> None:
    speech = voices["a"].held_out[: 40 * CHUNK]
    assert leaked_windows(speech, await heard(templates["b"], speech, ["on", "on", "silent", "silent"] * 10)) == []
