"""The measures themselves: they must see what they are there to see."""

from types import MappingProxyType

import numpy as np
import pytest

from tests.workers.voice.speech import Held
from workers.voice.engine import SAMPLE_RATE
from workers.voice.measure import SpeakerEncoder, click_ratio, leaked_windows, similarity


def test_the_encoder_tells_the_speakers_apart(voices: MappingProxyType[str, Held], encoder: SpeakerEncoder) -> None:
    one = {name: encoder(held.reference) for name, held in voices.items()}
    two = {name: encoder(held.held_out) for name, held in voices.items()}
    for name, other in (("a", "b"), ("b", "a")):
        assert similarity(one[name], two[name]) > 0.85
        assert similarity(one[name], two[other]) < 0.65


def test_an_embedding_does_not_depend_on_level(voices: MappingProxyType[str, Held], encoder: SpeakerEncoder) -> None:
    pcm = voices["a"].held_out
    assert similarity(encoder(pcm), encoder(pcm // 4)) > 0.99
    assert np.linalg.norm(encoder(pcm)) == pytest.approx(1, abs=1e-5)


def test_too_little_sound_has_no_embedding() -> None:
    with pytest.raises(ValueError, match=r"needs 1\.6 s"):
        SpeakerEncoder()(np.zeros(SAMPLE_RATE, np.int16))


@pytest.mark.parametrize("delay", [0, 512, 3333, 15_999])
@pytest.mark.parametrize("gain", [1.0, 0.1, -0.5])
def test_a_copy_leaks_at_any_lag_and_gain(voices: MappingProxyType[str, Held], delay: int, gain: float) -> None:
    source = voices["a"].held_out[: 3 * SAMPLE_RATE]
    copy = (np.roll(np.append(source, np.zeros(delay)), delay)[: len(source)] * gain).astype(np.int16)
    assert leaked_windows(source, copy)


def test_a_leak_through_a_faint_voice_over_it_is_found(voices: MappingProxyType[str, Held]) -> None:
    source, other = voices["a"].held_out[: 3 * SAMPLE_RATE], voices["b"].held_out[: 3 * SAMPLE_RATE]
    assert leaked_windows(source, source + (other * 0.05).astype(np.int16))


def test_one_leaked_stretch_is_located(voices: MappingProxyType[str, Held]) -> None:
    source = voices["a"].held_out[: 4 * SAMPLE_RATE]
    output = np.zeros_like(source)
    output[16_000:32_000] = source[16_000:32_000]
    starts = leaked_windows(source, output)
    assert starts
    assert all(16_000 - 1600 <= start <= 32_000 for start in starts)


def test_another_speaker_and_silence_do_not_leak(voices: MappingProxyType[str, Held]) -> None:
    source = voices["a"].held_out[: 4 * SAMPLE_RATE]
    assert leaked_windows(source, voices["b"].held_out[: 4 * SAMPLE_RATE]) == []
    assert leaked_windows(source, np.zeros_like(source)) == []
    assert leaked_windows(np.zeros_like(source), source) == []


def test_a_step_clicks_and_speech_does_not(voices: MappingProxyType[str, Held]) -> None:
    pcm = voices["b"].held_out[: 4 * SAMPLE_RATE]
    splices = range(3072, len(pcm) - 3072, 3072)
    assert click_ratio(pcm, splices).max() < 20
    cut = pcm.astype(int)
    for splice in splices:
        cut[splice:] += 4000 if splice // 3072 % 2 else -4000
    assert np.median(click_ratio(cut.clip(-32768, 32767).astype(np.int16), splices)) > 20
