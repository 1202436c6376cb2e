"""Formants by resampling: speak slower and lower, then play faster.

Formants that shall rise by a factor a are had by stretching the features a times in time, dividing pitch by a, and
playing the result a times faster: time and pitch come back, and everything the voice's throat did has moved by a.
Played back by linear interpolation at the synthesiser's rate: images lie 40 dB down below 4 kHz, 30 dB at 7 kHz.
"""

import numpy as np

from workers.voice.neural.content import Features
from workers.voice.neural.pitch import Track
from workers.voice.neural.synthesiser import Synthesiser
from workers.voice.neural.windows import Sound

LIMIT = 6.0  # semitones: beyond it the features are stretched past recognition


def synthesise(voice: Synthesiser, content: Features, f0: Track, first_frame: int, semitones: float) -> Sound:
    """Return the sound (T * hop,) of content (T, 768) and F0 (T,), its formants moved by `semitones`."""
    if not semitones:
        return voice(content, f0, first_frame)
    frames = len(f0)
    slow = max(1, round(frames * 2 ** (semitones / 12)))
    source = np.minimum((np.arange(slow) * frames / slow).astype(np.intp), frames - 1)
    sound = voice(content[source], np.asarray(f0[source] * np.float32(frames / slow)), first_frame)
    at = np.arange(frames * voice.hop) * (slow / frames)
    return np.asarray(np.interp(at, np.arange(len(sound)), sound), np.float32)
