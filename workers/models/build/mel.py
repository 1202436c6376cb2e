"""The mel filter bank in front of the speaker encoder: Slaney's scale and area normalisation, librosa's defaults.

Slaney (Auditory Toolbox, 1998): 200/3 Hz a mel up to 1 kHz, from there 27 mels for every factor of 6.4. Each filter is
a triangle between its neighbours' centres, divided by half its width in Hz.
"""

import io

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE, N_FFT, BANDS = 16_000, 400, 40  # Resemblyzer's: windows of 25 ms
_LINEAR_HZ, _KNEE_HZ, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27
_KNEE_MEL = _KNEE_HZ / _LINEAR_HZ


def hz_of(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequencies of points on Slaney's mel scale."""
    hz: NDArray[np.float64] = np.where(
        mels < _KNEE_MEL, mels * _LINEAR_HZ, _KNEE_HZ * np.exp(_LOG_STEP * (mels - _KNEE_MEL))
    )
    return hz


def filter_bank() -> NDArray[np.float32]:
    """Return the weights (40, 201): power spectrum to mel bands."""
    top = _KNEE_MEL + np.log(SAMPLE_RATE / 2 / _KNEE_HZ) / _LOG_STEP
    edges = hz_of(np.linspace(0.0, top, BANDS + 2))  # (42,) each band's centre with its neighbours'
    bins = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)  # (201,)
    widths = np.diff(edges)[:, None]
    rising = (bins - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - bins) / widths[1:]
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def to_npy() -> bytes:
    """Return the filter bank as the bytes of a `.npy`."""
    file = io.BytesIO()
    np.save(file, filter_bank(), allow_pickle=False)
    return file.getvalue()
