"""The gate: what is passed on, and how it opens and closes."""

from types import MappingProxyType

import numpy as np
import pytest

from tests.workers.voice.speech import Held, results
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, VoiceOutcome
from workers.voice.gate import SilenceGate
from workers.voice.grid import BLOCK, LOOKAHEAD, Samples

BLOCKS_A_SECOND = SAMPLE_RATE // BLOCK


def noise(level_db: float, blocks: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal((blocks, BLOCK)) * 10 ** (level_db / 20)


def test_it_opens_before_the_sound_that_opened_it() -> None:
    """What is due when a loud block arrives is `LOOKAHEAD` older, and already fades in."""
    gate = SilenceGate()
    assert all(gate.push(block) is None for block in noise(-90, 10))
    ramp = gate.push(noise(-20, 1)[0])
    assert LOOKAHEAD >= BLOCK
    assert ramp is not None
    assert ramp[0] == 0
    assert ramp[-1] > 0.99


def test_it_fades_and_never_jumps() -> None:
    gate = SilenceGate()
    blocks = np.concatenate((noise(-90, 20), noise(-20, 20), noise(-90, 40), noise(-20, 4)))
    gains = [gate.push(block) for block in blocks]
    track = np.concatenate([np.zeros(BLOCK) if gain is None else gain for gain in gains])
    assert np.abs(np.diff(track)).max() <= 1 / BLOCK + 1e-12
    assert track.max() == 1
    assert track[60 * BLOCK] == 0


@pytest.mark.parametrize("level_db", [-75, -60, -45, -40])
def test_steady_noise_never_opens_it(level_db: float) -> None:
    gate = SilenceGate()
    assert all(gate.push(block) is None for block in noise(level_db, 10 * BLOCKS_A_SECOND))


def test_noise_that_starts_is_learned() -> None:
    gate = SilenceGate()
    for block in noise(-90, 20):
        gate.push(block)
    gains = [gate.push(block) for block in noise(-45, 20 * BLOCKS_A_SECOND)]
    assert gains[5] is not None
    assert all(gain is None for gain in gains[-BLOCKS_A_SECOND:])


def test_a_loud_held_sound_never_closes_it() -> None:
    gate = SilenceGate()
    gains = [gate.push(block) for block in noise(-20, 60 * BLOCKS_A_SECOND)]
    assert all(gain is not None for gain in gains)


def test_steady_room_noise_is_not_turned_into_a_voice(
    engine: EmbeddedVoiceEngine, templates: MappingProxyType[str, bytes]
) -> None:
    pcm = (noise(-42, 60).ravel() * 32767).astype(np.int16)
    assert {result.outcome for result in results(engine.open(templates["b"]), pcm)} == {VoiceOutcome.GATED}


def test_speech_then_silence_then_speech(
    engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> None:
    """Speech is converted, silence gated; nothing rings on in the silence."""
    speech, silence = voices["a"].held_out[:30_720], np.zeros(30_720, np.int16)
    found = results(engine.open(templates["b"]), np.concatenate((speech, silence, speech)))
    assert found[5].outcome is VoiceOutcome.CONVERTED
    assert all(result.outcome is VoiceOutcome.GATED and not result.pcm.any() for result in found[13:20])
    assert any(result.outcome is VoiceOutcome.CONVERTED for result in found[20:23])
