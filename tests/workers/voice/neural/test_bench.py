"""The benchmark's joins: what it counts as a click is one, and what it calls speech is heard."""

import numpy as np

from ops.bench.neural_voice import CHUNK, _CannedVoice, _clicks, _Sine
from ops.shipped_media import media_file
from tests.workers.voice.speech import read_wav
from workers.voice.engine import SAMPLE_RATE


def test_hard_joins_of_a_held_tone_click_and_faded_ones_do_not() -> None:
    tone = np.asarray(8000 * np.sin(2 * np.pi * 200 / SAMPLE_RATE * np.arange(40 * CHUNK)), np.int16)
    assert _clicks(0, tone, _CannedVoice()) > 0.9
    assert _clicks(30, tone, _CannedVoice()) == 0


def test_hard_joins_of_speech_click_more_often_than_faded_ones() -> None:
    speech = read_wav(media_file("speaker_a.wav"))[: 50 * CHUNK]
    hard, faded = _clicks(0, speech, _Sine()), _clicks(30, speech, _Sine())
    assert hard > 0.5
    assert faded < 0.15
