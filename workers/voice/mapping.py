"""From one voice to another: pitch, long-term spectrum and spectral variety are moved to the target's."""

import numpy as np

from workers.voice.analysis import Frames
from workers.voice.envelope import BAND_WEIGHTS, FROM_CEPSTRUM, TO_CEPSTRUM
from workers.voice.grid import F0_CEILING, F0_FLOOR, Samples
from workers.voice.speaker import Speaker, shapes

_PRIOR_FRAMES = 25.0  # 0.2 s of speech outweigh what was presumed of the source
_PITCH_SPREAD = (0.7, 1.4)  # a monotone source must not be made to sing
_SPECTRAL_SPREAD = (0.75, 1.35)
_VOICING_STEP = 0.5  # of the way per frame: voiced and unvoiced statistics differ, and a flicker must not be heard


class VoiceMapping:
    """Maps frames of a source, learned as it speaks, to a known target."""

    def __init__(self, target: Speaker) -> None:
        """Presume that the source sounds like the target until it is heard."""
        self._target = target
        self._source = target.presumed_like(_PRIOR_FRAMES)
        self._voicing = 0.0

    def learn(self, frames: Frames) -> None:
        """Learn the source's voice."""
        self._source.hear(frames)

    def convert(self, frames: Frames) -> Frames:
        """Return the frames in the target's voice, as loud as they were."""
        return Frames(self._pitch(frames.f0), self._spectra(frames))

    def _pitch(self, f0: Samples) -> Samples:
        source, target = self._source.pitch, self._target.pitch
        spread = np.clip(np.sqrt(target.variance / source.variance), *_PITCH_SPREAD)
        moved = np.exp((np.log(np.maximum(f0, 1.0)) - source.mean) * spread + target.mean)
        return np.where(f0 > 0, np.clip(moved, F0_FLOOR, F0_CEILING), 0.0)

    def _spectra(self, frames: Frames) -> Samples:
        source, target = self._source, self._target
        shape, _ = shapes(frames.log_power)
        centred = shape - source.voiced.mean
        spread = np.clip(np.sqrt(target.cepstra.variance / source.cepstra.variance), *_SPECTRAL_SPREAD)
        widened = centred + (centred @ TO_CEPSTRUM * (spread - 1)) @ FROM_CEPSTRUM
        voiced = target.voiced.mean + widened
        unvoiced = target.unvoiced.mean + shape - source.unvoiced.mean
        voicing = self._smooth_voicing(frames.f0)[:, None]
        moved = voicing * voiced + (1 - voicing) * unvoiced
        return np.asarray(moved + (_loudness(frames.log_power) - _loudness(moved))[:, None])

    def _smooth_voicing(self, f0: Samples) -> Samples:
        """Return how far each frame is to be treated as voiced (4,), 0 to 1."""
        smooth = np.empty(len(f0))
        for frame, voiced in enumerate(f0 > 0):
            self._voicing += _VOICING_STEP * (float(voiced) - self._voicing)
            smooth[frame] = self._voicing
        return smooth


def _loudness(log_power: Samples) -> Samples:
    """Return the log of power summed over mel bands (n,)."""
    return np.asarray(np.log(np.exp(log_power) @ BAND_WEIGHTS))
