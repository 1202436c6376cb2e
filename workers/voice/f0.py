"""Fundamental frequency, streaming: normalised cross-correlation candidates and a fixed-lag Viterbi path.

The formulas are those of RAPT (Talkin, "A robust algorithm for pitch tracking", 1995): candidates are local maxima of
the normalised cross-correlation of the low-passed signal, a path through them pays for weak correlation, for pitch
jumps and for changes of voicing. Two things differ. The two correlated windows lie symmetrically about the frame, so
that a frame's pitch is that of its centre; and the path is read back from `LAG` frames ahead, not from the end.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from workers.voice.engine import SAMPLE_RATE
from workers.voice.grid import BLOCK, F0_CEILING, F0_FLOOR, FRAMES, HOP, LOOKAHEAD, Samples

_DECIMATION = 4
_RATE = SAMPLE_RATE // _DECIMATION
_LOW_PASS_HZ = 1000.0  # above the first few harmonics, below the formants that mislead
_TAPS = 49
_WINDOW = 100  # decimated samples: 25 ms, two periods of a low voice
_LAGS = np.arange(int(_RATE / F0_CEILING), int(np.ceil(_RATE / F0_FLOOR)) + 2)  # decimated samples

REACH = 384  # samples right of its centre that a frame's correlation needs: (25 ms + 16.9 ms) / 2 + filter
LAG = (LOOKAHEAD - REACH) // HOP  # frames the path is read back over

_CANDIDATES = 5  # per frame; slot 0 of a path column is "unvoiced"
_LAG_PENALTY = 0.3  # RAPT's lag weight: a multiple of the period correlates as well, and must not win
_JUMP_COST = 1.0  # per natural-log unit of pitch between frames
_VOICING_COST = 0.12  # for every change between voiced and unvoiced
_FAINT = 1e-6  # mean square, -60 dBFS: below it correlation is of rounding noise


def _low_pass() -> Samples:
    n = np.arange(_TAPS) - _TAPS // 2
    taps = np.sinc(2 * _LOW_PASS_HZ / SAMPLE_RATE * n) * np.hanning(_TAPS + 2)[1:-1]
    return np.asarray(taps / taps.sum())


@dataclass(frozen=True, slots=True)
class _Column:
    """One frame of the path: candidate pitches (log Hz, slot 0 unvoiced) and where each came from."""

    log_f0: Samples
    strength: Samples
    came_from: np.ndarray


class PitchTracker:
    """Blocks of samples in, F0 of the frames `LOOKAHEAD` behind them out."""

    _taps = _low_pass()
    _tail = _TAPS // 2 // _DECIMATION + 1  # decimated samples by which the filter lags
    _history = 384  # decimated samples kept

    def __init__(self) -> None:
        """Start with silence behind."""
        self._raw = np.zeros(BLOCK + 2 * _TAPS)
        self._low = np.zeros(self._history)
        self._path: deque[_Column] = deque(maxlen=LAG + 1)
        self._cost = np.zeros(_CANDIDATES + 1)
        centres = self._history - 1 + self._tail - (REACH + HOP * np.arange(FRAMES)[::-1]) // _DECIMATION
        self._first = centres[:, None] - (_WINDOW + _LAGS[None, :]) // 2  # (frames, lags) start of the earlier window

    def skip(self, block: Samples) -> None:
        """Take a block in without tracking it (silence); the path starts anew after it."""
        self._take(block)
        self._path.clear()
        self._cost = np.zeros(_CANDIDATES + 1)

    def push(self, block: Samples) -> tuple[Samples, Samples]:
        """Take (512,) samples; return F0 in Hz (0 = unvoiced) and correlation, (4,) each.

        The frames are those centred 384, 256, 128 and 0 samples before `LOOKAHEAD` before the end of the block.
        """
        self._take(block)
        correlation = self._correlate()
        f0, strength = np.zeros(FRAMES), np.zeros(FRAMES)
        for frame in range(FRAMES):
            self._extend(correlation[frame])
            if len(self._path) > LAG:
                f0[frame], strength[frame] = self._read_back()
        return f0, strength

    def _take(self, block: Samples) -> None:
        self._raw = np.concatenate((self._raw[BLOCK:], block))
        start = len(self._raw) - BLOCK - self._tail * _DECIMATION - _TAPS // 2 + _DECIMATION
        windows = sliding_window_view(self._raw, _TAPS)[start : start + BLOCK : _DECIMATION]
        self._low = np.concatenate((self._low[BLOCK // _DECIMATION :], windows @ self._taps))

    def _correlate(self) -> Samples:
        """Return the normalised cross-correlation (frames, lags)."""
        windows = sliding_window_view(self._low - self._low.mean(), _WINDOW)
        energy = np.einsum("sw,sw->s", windows, windows) + _FAINT * _WINDOW
        early, late = self._first, self._first + _LAGS
        return np.asarray(
            np.einsum("flw,flw->fl", windows[early], windows[late]) / np.sqrt(energy[early] * energy[late])
        )

    def _extend(self, correlation: Samples) -> None:
        """Add one frame, given its correlation (lags,), to every path."""
        before, here, after = correlation[:-2], correlation[1:-1], correlation[2:]
        peaks = np.flatnonzero((here > before) & (here >= after) & (here > 0.25)) + 1
        left, mid, right = correlation[peaks - 1], correlation[peaks], correlation[peaks + 1]
        # The height at the vertex, too: a short period that falls between two lags is sampled low on both, and twice
        # the period, which falls on one, would win.
        offset = 0.5 * (left - right) / np.minimum(left - 2 * mid + right, -1e-9)
        height = np.minimum(mid - 0.25 * (left - right) * offset, 1.0)
        worth = height * (1 - _LAG_PENALTY * _LAGS[peaks] / _LAGS[-1])
        order = np.argsort(-worth, kind="stable")[:_CANDIDATES]
        lag, height, worth = (_LAGS[peaks] + offset)[order], height[order], worth[order]
        peaks = peaks[order]

        column = np.zeros(_CANDIDATES + 1)  # log F0
        column[1 : 1 + len(peaks)] = np.log(np.clip(_RATE / lag, F0_FLOOR, F0_CEILING))
        strength = np.zeros(_CANDIDATES + 1)
        strength[1 : 1 + len(peaks)] = height
        local = np.full(_CANDIDATES + 1, np.inf)
        local[0] = strength.max()
        local[1 : 1 + len(peaks)] = 1 - worth

        previous = self._path[-1].log_f0 if self._path else np.zeros(_CANDIDATES + 1)
        voiced, was_voiced = column[:, None] > 0, previous[None, :] > 0
        step = np.where(voiced & was_voiced, _JUMP_COST * np.abs(column[:, None] - previous), _VOICING_COST)
        step[0, 0] = 0.0
        total = self._cost[None, :] + step
        came_from = np.argmin(total, axis=1)
        cost = local + total[np.arange(len(column)), came_from]
        self._cost = cost - cost.min()
        self._path.append(_Column(column, strength, came_from))

    def _read_back(self) -> tuple[float, float]:
        """Return F0 and strength of the oldest frame, along the path that is best now."""
        at = int(np.argmin(self._cost))
        columns = list(self._path)
        for column in reversed(columns[1:]):
            at = int(column.came_from[at])
        log_f0 = float(columns[0].log_f0[at])
        return (float(np.exp(log_f0)), float(columns[0].strength[at])) if log_f0 > 0 else (0.0, 0.0)
