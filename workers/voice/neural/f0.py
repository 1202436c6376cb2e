"""Where F0 comes from: a protocol, and the embedded engine's own tracker behind it (see also `rmvpe` and `swift`)."""

from collections import deque
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.voice import f0 as embedded
from workers.voice import grid
from workers.voice.neural.pitch import Track
from workers.voice.neural.windows import FRAME, LARGEST, History, Sound, Window


class PitchStream(Protocol):
    """F0 of one stream."""

    def hear(self, block: Sound) -> None:
        """Take in the next 512 samples, in order and without gaps."""

    def track(self, history: History, window: Window) -> Track:
        """Return F0 of the window's frames, (window.frames,) Hz, 0 = unvoiced. Frame j is centred on sample 160 j."""
        ...


NewPitchStream = Callable[[], PitchStream]


def on_grid(at: NDArray[np.integer], f0: NDArray[np.floating], wanted: NDArray[np.integer]) -> Track:
    """Return a track known at samples `at` (rising) at samples `wanted`.

    Between two voiced frames the logarithm is interpolated; beside an unvoiced one the nearer frame decides; beyond
    the last frame it is held.
    """
    right = np.clip(np.searchsorted(at, wanted, side="right"), 1, len(at) - 1)
    left = right - 1
    share = np.clip((wanted - at[left]) / (at[right] - at[left]), 0.0, 1.0)
    nearest = np.where(share > 0.5, f0[right], f0[left])
    both = (f0[left] > 0) & (f0[right] > 0)
    low, high = np.log(np.where(both, f0[left], 1.0)), np.log(np.where(both, f0[right], 1.0))
    return np.where(both, np.exp(low + (high - low) * share), nearest).astype(np.float32)


def centres(window: Window) -> NDArray[np.int64]:
    """Return the samples that the window's frames are centred on."""
    return FRAME * (window.first_frame + np.arange(window.frames))


class TrackerStream:
    """The embedded engine's tracker: no model, and causal state instead of windows; F0 lags by 32 ms."""

    _kept = 4 * LARGEST // grid.HOP  # frames

    def __init__(self) -> None:
        """Start with silence behind."""
        self._tracker = embedded.PitchTracker()
        self._f0: deque[float] = deque([0.0] * self._kept, maxlen=self._kept)
        self._end = 0

    def hear(self, block: Sound) -> None:
        """Track the next 512 samples."""
        self._f0.extend(self._tracker.push(block.astype(np.float64))[0])
        self._end += len(block)

    def track(self, history: History, window: Window) -> Track:
        """Return F0 of the window's frames; those of the last 32 ms hold what was last known."""
        if history.end != self._end:
            raise ValueError(f"the tracker heard {self._end} samples, the history has {history.end}")
        at = self._end - grid.LOOKAHEAD - grid.HOP * np.arange(self._kept)[::-1]
        return on_grid(at, np.array(self._f0), centres(window))
