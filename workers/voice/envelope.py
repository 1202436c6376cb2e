"""Spectral envelopes: CheapTrick on the grid, and the linear maps between log spectra and mel cepstra."""

import numpy as np
import pyworld

from workers.voice.engine import SAMPLE_RATE
from workers.voice.grid import BINS, FFT, FRAMES, HOP, Samples

MARGIN = 512  # samples either side of the frames: one and a half periods of 60 Hz is 400
CEPSTRA = 24

_ANALYSIS_FFT = 1024  # three periods of a 47 Hz voice
_BANDS = 40
_POWER_FLOOR = 1e-12
_TIMES = (MARGIN + HOP * np.arange(FRAMES)) / SAMPLE_RATE  # seconds, of the frames in what `log_spectra` is given


def log_spectra(samples: Samples, f0: Samples) -> Samples:
    """Return the log power envelopes (4, BINS) of the frames in the middle of `samples`.

    `samples` is (2 * MARGIN + 3 * HOP,), its first frame at MARGIN; `f0` (4,) in Hz, 0 for unvoiced. CheapTrick
    (Morise 2015) smooths over the pitch period, so that harmonics do not show.
    """
    power = pyworld.cheaptrick(samples, f0, _TIMES, SAMPLE_RATE, fft_size=_ANALYSIS_FFT)
    return np.log(power[:, :: _ANALYSIS_FFT // FFT] + _POWER_FLOOR)


def _mel(hertz: Samples) -> Samples:
    return 2595 * np.log10(1 + hertz / 700)


def _hertz(mel: Samples) -> Samples:
    return 700 * (10 ** (mel / 2595) - 1)


FREQUENCIES: Samples = np.arange(BINS) * SAMPLE_RATE / FFT  # Hz


def _bands() -> tuple[Samples, Samples]:
    """Return triangular mel averages of a spectrum (BANDS, BINS), and the interpolation back (BINS, BANDS)."""
    edges = _hertz(np.linspace(_mel(np.array(40.0)), _mel(np.array(SAMPLE_RATE / 2)), _BANDS + 2))
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    # A band narrower than a bin keeps at least the bins next to its centre.
    width = SAMPLE_RATE / FFT
    rising = (FREQUENCIES - np.minimum(low, centre - width)) / np.maximum(centre - low, width)
    falling = (np.maximum(high, centre + width) - FREQUENCIES) / np.maximum(high - centre, width)
    average = np.maximum(0.0, np.minimum(rising, falling))
    average /= average.sum(axis=1, keepdims=True)
    back = np.stack([np.interp(FREQUENCIES, edges[1:-1], row) for row in np.eye(_BANDS)], axis=1)
    return average, back


def _cosines() -> Samples:
    """Return the orthonormal DCT-II (CEPSTRA, BANDS)."""
    basis = np.cos(np.pi / _BANDS * np.arange(CEPSTRA)[:, None] * (np.arange(_BANDS) + 0.5)) * np.sqrt(2 / _BANDS)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis)


_AVERAGE, _BACK = _bands()
TO_CEPSTRUM: Samples = np.ascontiguousarray((_cosines() @ _AVERAGE).T)  # (BINS, CEPSTRA): log spectra @ it
FROM_CEPSTRUM: Samples = np.ascontiguousarray((_BACK @ _cosines().T).T)  # (CEPSTRA, BINS): cepstra @ it
BAND_WEIGHTS: Samples = _AVERAGE.mean(axis=0)  # (BINS,) sums to one: the density of mel bands over frequency
