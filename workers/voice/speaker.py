"""What is known of a speaker's voice: pitch and spectral statistics, learned frame by frame and forgotten slowly."""

from dataclasses import dataclass, replace

import numpy as np

from workers.voice.analysis import Frames
from workers.voice.envelope import BAND_WEIGHTS, CEPSTRA, TO_CEPSTRUM
from workers.voice.grid import BINS, Samples

_QUIET = 35 / 10 * np.log(10)  # 35 dB in natural log power: frames so far below the running peak are pauses and tails
_PEAK_FALL = 0.005  # natural log power a frame: the peak is forgotten at 2.7 dB a second

_TYPICAL_PITCH = np.array([np.log(150.0)])  # between the usual male and female means
_TYPICAL_PITCH_VARIANCE = np.array([0.2**2])


def shapes(log_power: Samples) -> tuple[Samples, Samples]:
    """Split log envelopes (n, BINS) into shapes (n, BINS), of zero mel-weighted mean, and levels (n,)."""
    levels = log_power @ BAND_WEIGHTS
    return log_power - levels[:, None], levels


@dataclass(slots=True)
class Moments:
    """Running mean and variance (dims,). The weight of the past is capped, so that the past is forgotten."""

    mean: Samples
    variance: Samples
    weight: float  # frames
    cap: float = 4000.0  # frames: half a minute of voiced speech

    def update(self, values: Samples) -> None:
        """Take (n, dims) values in, n ≥ 1."""
        past = min(self.weight, self.cap)
        total = past + len(values)
        moved = values - self.mean
        self.mean = self.mean + moved.sum(axis=0) / total
        self.variance = (self.variance * past + (moved * (values - self.mean)).sum(axis=0)) / total
        self.weight = total


@dataclass(slots=True)
class Speaker:
    """Statistics of one voice. Means are of whole envelopes, variances of mel cepstra."""

    pitch: Moments  # (1,) natural log Hz
    voiced: Moments  # (BINS,) shapes
    unvoiced: Moments  # (BINS,) shapes
    cepstra: Moments  # (CEPSTRA,) of voiced shapes
    peak: float = -np.inf  # natural log power

    @classmethod
    def unheard(cls) -> "Speaker":
        """Return a speaker of whom nothing is known."""
        return cls(
            pitch=Moments(_TYPICAL_PITCH, _TYPICAL_PITCH_VARIANCE, 0.0),
            voiced=Moments(np.zeros(BINS), np.ones(BINS), 0.0),
            unvoiced=Moments(np.zeros(BINS), np.ones(BINS), 0.0),
            cepstra=Moments(np.zeros(CEPSTRA), np.ones(CEPSTRA), 0.0),
        )

    def presumed_like(self, frames: float) -> "Speaker":
        """Return a new speaker, presumed of typical pitch and of this one's spectrum until `frames` outweigh it."""
        return Speaker(
            pitch=Moments(_TYPICAL_PITCH, _TYPICAL_PITCH_VARIANCE, frames),
            voiced=replace(self.voiced, weight=frames),
            unvoiced=replace(self.unvoiced, weight=frames),
            cepstra=replace(self.cepstra, weight=frames),
        )

    def hear(self, frames: Frames) -> None:
        """Learn from four frames; pauses and the tails of words teach nothing."""
        shape, level = shapes(frames.log_power)
        self.peak = max(self.peak - _PEAK_FALL * len(level), float(level.max()))
        loud = level > self.peak - _QUIET
        voiced = loud & (frames.f0 > 0)
        unvoiced = loud & (frames.f0 == 0)
        if voiced.any():
            self.pitch.update(np.log(frames.f0[voiced])[:, None])
            self.voiced.update(shape[voiced])
            self.cepstra.update(shape[voiced] @ TO_CEPSTRUM)
        if unvoiced.any():
            self.unvoiced.update(shape[unvoiced])
