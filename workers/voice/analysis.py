"""Streaming analysis: samples to pitch and envelopes on the grid. The same chain hears the source and the reference."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workers.voice import envelope
from workers.voice.engine import Pcm
from workers.voice.f0 import PitchTracker
from workers.voice.grid import BLOCK, FRAMES, HOP, LOOKAHEAD, Samples

_FULL_SCALE = 32768.0


def to_samples(pcm: Pcm) -> Samples:
    """Return int16 samples as float64 in [-1, 1)."""
    return pcm.astype(np.float64) / _FULL_SCALE


@dataclass(frozen=True, slots=True)
class Frames:
    """Four analysis frames, the last of them `LOOKAHEAD` behind the newest sample."""

    f0: Samples  # (4,) Hz, 0 = unvoiced
    log_power: Samples  # (4, BINS)


class StreamingAnalysis:
    """Blocks in, frames out; remembers what windows reach back to."""

    def __init__(self) -> None:
        """Start with silence behind."""
        self._tracker = PitchTracker()
        first = HOP * (FRAMES - 1) + LOOKAHEAD + envelope.MARGIN  # samples from the first window's start to the end
        self._recent = np.zeros(-(-first // BLOCK) * BLOCK)
        start = len(self._recent) - first
        self._window = slice(start, start + HOP * (FRAMES - 1) + 2 * envelope.MARGIN)
        self.f0_ns = 0
        self.envelope_ns = 0

    def skip(self, block: Samples) -> None:
        """Take (512,) samples in without analysing them."""
        self._take(block)
        self._tracker.skip(block)

    def push(self, block: Samples) -> Frames:
        """Take (512,) samples; return the frames due. `f0_ns` and `envelope_ns` then say what they cost."""
        started = time.perf_counter_ns()
        self._take(block)
        f0, _ = self._tracker.push(block)
        tracked = time.perf_counter_ns()
        log_power = envelope.log_spectra(self._recent[self._window], f0)
        self.f0_ns, self.envelope_ns = tracked - started, time.perf_counter_ns() - tracked
        return Frames(f0, log_power)

    def _take(self, block: Samples) -> None:
        self._recent = np.concatenate((self._recent[BLOCK:], block))


def analyse(pcm: Pcm) -> Iterator[tuple[Samples, Frames]]:
    """Yield every block of a whole recording with the frames that became due with it, pitch tails included."""
    padded = np.concatenate((to_samples(pcm), np.zeros(LOOKAHEAD + BLOCK)))
    analysis = StreamingAnalysis()
    for start in range(0, len(padded) - BLOCK + 1, BLOCK):
        block = padded[start : start + BLOCK]
        yield block, analysis.push(block)
