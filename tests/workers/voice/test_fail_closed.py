"""Whatever breaks inside, the original voice never comes out."""

from types import MappingProxyType

import numpy as np
import pytest

from tests.workers.voice.speech import Held, results
from workers.voice.analysis import Frames
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import VoiceOutcome
from workers.voice.mapping import VoiceMapping


class RaisingMapping(VoiceMapping):
    def convert(self, frames: Frames) -> Frames:
        raise RuntimeError(f"broken stage, {len(frames.f0)} frames")


class NotANumberMapping(VoiceMapping):
    def convert(self, frames: Frames) -> Frames:
        return Frames(frames.f0, np.full_like(frames.log_power, np.nan))


class OverflowingMapping(VoiceMapping):
    def convert(self, frames: Frames) -> Frames:
        return Frames(frames.f0, frames.log_power + 3000)


@pytest.mark.parametrize("mapping", [RaisingMapping, NotANumberMapping, OverflowingMapping])
def test_a_broken_stage_silences(
    mapping: type[VoiceMapping], voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> None:
    stream = EmbeddedVoiceEngine(mapping=mapping).open(templates["b"])
    found = results(stream, voices["a"].held_out[:32_000])
    assert VoiceOutcome.CONVERTED not in {result.outcome for result in found}
    assert VoiceOutcome.SILENCED in {result.outcome for result in found}
    assert not np.concatenate([result.pcm for result in found]).any()


class BreaksOnceMapping(VoiceMapping):
    broken = False

    def convert(self, frames: Frames) -> Frames:
        if not BreaksOnceMapping.broken:
            BreaksOnceMapping.broken = True
            raise RuntimeError("broken once")
        return super().convert(frames)


def test_a_stream_recovers_with_fresh_state(
    voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes], engine: EmbeddedVoiceEngine
) -> None:
    """After a failure the stream behaves as one that was just opened."""
    pcm = voices["a"].held_out
    broken = EmbeddedVoiceEngine(mapping=BreaksOnceMapping).open(templates["b"])
    found = results(broken, pcm[:48_000])
    at = [result.outcome for result in found].index(VoiceOutcome.SILENCED)
    fresh = results(engine.open(templates["b"]), pcm[(at + 1) * 3072 : 48_000])
    assert [result.outcome for result in found].count(VoiceOutcome.SILENCED) == 1
    for after, expected in zip(found[at + 1 :], fresh, strict=True):
        np.testing.assert_array_equal(after.pcm, expected.pcm)
