"""From the synthesiser's rate to 16 kHz, as a stream: a polyphase Kaiser FIR with its own history.

`soxr` would do, but its streams hold back a varying number of samples, up to 36 ms; this filter always lags `DELAY`.
"""

from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural.windows import Sound

DELAY = 32  # samples at 16 kHz: 2 ms
RATES = (32_000, 40_000, 48_000)  # of RVC v2 voices

_CUTOFF_HZ = 7550.0  # the -6 dB point: 7.1 kHz passes, 8 kHz and what would fold stays out
_BETA = 5.65  # Kaiser, 60 dB


class Decimator:
    """Sound at `rate` in, sound at 16 kHz out, `DELAY` samples later."""

    def __init__(self, rate: int) -> None:
        """Design the filter: (2 * DELAY * rate / 16000) samples long. `rate` is one of `RATES`."""
        if rate not in RATES:
            raise ValueError(f"rate is {rate}; {', '.join(map(str, RATES))} are accepted")
        common = gcd(rate, SAMPLE_RATE)
        self._up, self._down = SAMPLE_RATE // common, rate // common
        half = DELAY * self._down  # at the common multiple of both rates
        position = np.arange(-half, half + 1)
        fine_rate = rate * self._up
        prototype = np.sinc(2 * _CUTOFF_HZ / fine_rate * position) * np.kaiser(2 * half + 1, _BETA)
        prototype *= self._up / prototype.sum()
        reach = half // self._up
        offsets = np.arange(-reach, reach + 1)
        self._phases = []
        for phase in range(self._up):
            whole, part = divmod(phase * self._down, self._up)
            at = part - offsets * self._up + half
            inside = (at >= 0) & (at <= 2 * half)
            taps = np.where(inside, prototype[np.clip(at, 0, 2 * half)], 0.0).astype(np.float32)
            self._phases.append((whole, taps))
        self._history: Sound = np.zeros(2 * reach, np.float32)

    def reset(self) -> None:
        """Forget what came before."""
        self._history[:] = 0

    def push(self, sound: Sound) -> Sound:
        """Return N samples at 16 kHz for the same duration at `rate`; N must be even where the ratio is not whole."""
        count, left = divmod(len(sound), self._down)
        if left:
            raise ValueError(f"{len(sound)} samples are no whole number of {self._down}")
        buffer = np.concatenate((self._history, sound))
        out = np.empty(count * self._up, np.float32)
        for phase, (whole, taps) in enumerate(self._phases):
            out[phase :: self._up] = sliding_window_view(buffer, len(taps))[whole :: self._down][:count] @ taps
        self._history = buffer[len(buffer) - len(self._history) :].copy()
        return out
