"""Templates survive the trip through bytes, refuse damage, and are not made of poor recordings."""

from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.errors import CodecError, EnrolmentRefused
from tests.workers.voice.speech import Held
from workers.voice import template
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, Pcm

SECONDS_12 = 12 * SAMPLE_RATE


def test_bytes_hold_what_was_learned(templates: MappingProxyType[str, bytes]) -> None:
    speaker = template.decode(templates["a"])
    assert template.encode(speaker) == templates["a"]
    assert 80 < np.exp(speaker.pitch.mean[0]) < 120  # the lower of the two readers
    assert 150 < np.exp(template.decode(templates["b"]).pitch.mean[0]) < 220


def test_enrolment_is_deterministic(
    engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> None:
    assert engine.enrol(voices["a"].reference) == templates["a"]


@settings(max_examples=60)
@given(data=st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject, templates: MappingProxyType[str, bytes]) -> None:
    good = templates["a"]
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = good[:at] + bytes([good[at] ^ data.draw(st.integers(1, 255))]) + good[at + 1 :]
    with pytest.raises(CodecError):
        template.decode(flipped)


@given(junk=st.binary(max_size=64))
def test_junk_is_refused(junk: bytes) -> None:
    with pytest.raises(CodecError):
        template.decode(junk)


@pytest.mark.parametrize("cut", [1, 100, 4000])
def test_a_truncated_template_is_refused(templates: MappingProxyType[str, bytes], cut: int) -> None:
    with pytest.raises(CodecError, match="damaged"):
        template.decode(templates["a"][:-cut])


def test_a_later_version_says_so(templates: MappingProxyType[str, bytes]) -> None:
    with pytest.raises(CodecError, match="version 9"):
        template.decode(templates["a"][:4] + b"\x09\x00" + templates["a"][6:])


def noise(level: float) -> Pcm:
    return (np.random.default_rng(0).standard_normal(SECONDS_12) * level * 32767).astype(np.int16)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (np.zeros(SECONDS_12, np.int16), "silent"),
        (noise(0.001), "silent"),
        (noise(0.1), "voiced speech"),
        (np.full(SECONDS_12, 32767, np.int16), "clipped"),
        (np.zeros(SECONDS_12, np.float32), "int16"),
    ],
    ids=["silence", "faint", "noise", "clipped", "float"],
)
def test_poor_references_are_refused_with_a_reason(
    engine: EmbeddedVoiceEngine, reference: np.ndarray, reason: str
) -> None:
    with pytest.raises(EnrolmentRefused, match=reason):
        engine.enrol(reference)


def test_overdriven_speech_is_refused(engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held]) -> None:
    loud = np.clip(voices["a"].reference.astype(int) * 20, -32768, 32767).astype(np.int16)
    with pytest.raises(EnrolmentRefused, match="clipped"):
        engine.enrol(loud)


def test_mostly_silent_speech_is_refused(engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held]) -> None:
    sparse = np.concatenate((voices["b"].reference[: 3 * SAMPLE_RATE], np.zeros(9 * SAMPLE_RATE, np.int16)))
    with pytest.raises(EnrolmentRefused, match="voiced speech"):
        engine.enrol(sparse)
