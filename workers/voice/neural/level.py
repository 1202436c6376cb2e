"""Loudness: the output follows the input's level, and no peak is cut."""

import numpy as np

from workers.voice.engine import Pcm
from workers.voice.grid import BLOCK
from workers.voice.neural.windows import Sound

_MEMORY = 0.08  # share of one 32 ms block in the running power: 0.4 s
_QUIET = 10 ** (-50 / 10)  # mean square below which a block says nothing about level
_GAIN = (0.1, 10.0)
_KNEE = 0.7  # of full scale: above it the limiter bends


class LevelMatch:
    """Learns both levels and returns the sound with a gain that moves smoothly."""

    def __init__(self) -> None:
        """Start with a gain of one."""
        self._source = self._output = 0.0
        self._gain = 1.0

    def push(self, source: Sound, output: Sound) -> Sound:
        """Return `output` (N,) at the level of `source` (N,), the sound it was made of; N a multiple of 512."""
        powers = [np.mean(sound.reshape(-1, BLOCK).astype(np.float64) ** 2, axis=1) for sound in (source, output)]
        ramps = [self._ramp(float(heard), float(made)) for heard, made in zip(*powers, strict=True)]
        return np.asarray(output * np.concatenate(ramps), np.float32)

    def _ramp(self, heard: float, made: float) -> Sound:
        before = self._gain
        if heard > _QUIET and made > 0:
            share = _MEMORY if self._output else 1.0
            self._source += share * (heard - self._source)
            self._output += share * (made - self._output)
            self._gain = float(np.clip(np.sqrt(self._source / self._output), *_GAIN))
        return np.linspace(before, self._gain, BLOCK, endpoint=False, dtype=np.float32)


def to_pcm(sound: Sound) -> Pcm:
    """Return int16 samples; what is above the knee is bent towards full scale."""
    size = np.abs(sound)
    bent = _KNEE + (1 - _KNEE) * np.tanh((size - _KNEE) / (1 - _KNEE))
    return np.asarray(np.rint(np.where(size > _KNEE, np.copysign(bent, sound), sound) * 32767), np.int16)
