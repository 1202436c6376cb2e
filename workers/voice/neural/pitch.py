"""Pitch as the synthesiser takes it: in Hz for its sine source, on a scale of 255 steps for its text encoder."""

import numpy as np
from numpy.typing import NDArray

Track = NDArray[np.float32]  # (T,) Hz, 0 = unvoiced
Coarse = NDArray[np.int64]  # (T,) 1 to 255

_LOW_HZ, _HIGH_HZ = 50.0, 1100.0
_STEPS = 254
_PRIOR_FRAMES = 25.0  # a quarter of a second of speech outweighs what was presumed,
_KNOWN_FRAMES = 100.0  # and a second replaces it
_MOST_FRAMES = 2000.0  # 20 s of speech: the mean follows a speaker who changes
_FARTHEST = 24.0  # semitones a mean may be moved by


def _mel(f0: NDArray[np.floating]) -> NDArray[np.float64]:
    return 1127 * np.log1p(np.asarray(f0, np.float64) / 700)


_LOW_MEL, _HIGH_MEL = float(_mel(np.array(_LOW_HZ))), float(_mel(np.array(_HIGH_HZ)))


def coarse(f0: Track) -> Coarse:
    """Return the step of each pitch: 50 Hz and below (and unvoiced) 1, 1100 Hz and above 255, evenly spaced in mel."""
    steps = (_mel(f0) - _LOW_MEL) * _STEPS / (_HIGH_MEL - _LOW_MEL) + 1
    return np.rint(np.clip(steps, 1, 255)).astype(np.int64)


def transpose(f0: Track, semitones: float) -> Track:
    """Return the track moved by semitones; what is unvoiced stays so."""
    return np.asarray(f0 * np.float32(2 ** (semitones / 12)), np.float32)


class MeanMatch:
    """How far a speaker's pitch lies from the target's: log means, the speaker's learned while listening."""

    def __init__(self, target_log_f0: float) -> None:
        """Presume that the speaker has the target's mean (natural log of Hz) until heard."""
        self._target = self._mean = target_log_f0
        self._frames = 0.0

    def hear(self, f0: Track) -> None:
        """Learn from frames that were not heard before."""
        voiced = np.log(f0[f0 > 0].astype(np.float64))
        if len(voiced):
            self._frames = min(self._frames, _MOST_FRAMES) + len(voiced)
            self._mean += (float(voiced.mean()) - self._mean) * len(voiced) / self._frames

    @property
    def semitones(self) -> float:
        """Return by how much the speaker is to be moved."""
        presumed = _PRIOR_FRAMES * max(0.0, 1 - self._frames / _KNOWN_FRAMES)
        trust = self._frames / (self._frames + presumed)
        return float(np.clip((self._target - self._mean) * trust * 12 / np.log(2), -_FARTHEST, _FARTHEST))
