"""How alike two outputs are: peak signal-to-noise ratio of pictures, log-spectral distance of sound. Pure.

Thresholds are meant for one engine on two machines, or for kernels that add in another order: 40 dB is a mean error of
2.6 of 255 levels, and 1 dB of spectral distance is the usual bound of what listeners do not notice (Paliwal and Atal,
IEEE Transactions on Speech and Audio Processing 1(1), 1993). Another face or voice is far beyond either.
"""

import math

import numpy as np
import simplejpeg

from workers.video.engine import Frame
from workers.voice.engine import Pcm

PSNR_DB = 40.0
"""Pictures below this are different."""
LSD_DB = 1.0
"""Sound above this is different."""

_WINDOW = 512  # samples: 32 ms
_HOP = 256
_FLOOR = 1e-6  # of full scale, 60 dB down: below it nobody hears a difference


def psnr_db(one: Frame, other: Frame) -> float:
    """Return 10·log10(255² / mean square error) of (H, W, 3) frames: infinite for equal ones, 0 for other sizes."""
    if one.shape != other.shape:
        return 0.0
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def lsd_db(one: Pcm, other: Pcm) -> float:
    """Return the log-spectral distance of (N,) int16 sounds: the mean over frames of the RMS over bins, in dB.

    Frames of 32 ms, half overlapping, Hann window, power floored 60 dB below full scale. Infinite for other lengths.
    """
    if one.shape != other.shape:
        return math.inf
    difference = _levels_db(one) - _levels_db(other)
    return float(np.mean(np.sqrt(np.mean(difference**2, axis=1))))


def jpeg_psnr_db(one: bytes, other: bytes) -> float:
    """Return `psnr_db` of two JPEGs; 0 when one of them does not decode."""
    try:
        return psnr_db(simplejpeg.decode_jpeg(one, "BGR"), simplejpeg.decode_jpeg(other, "BGR"))
    except ValueError:
        return 0.0


def pcm_lsd_db(one: bytes, other: bytes) -> float:
    """Return `lsd_db` of PCM16 bytes; infinite for other lengths."""
    if len(one) != len(other) or len(one) % 2:
        return math.inf
    return lsd_db(np.frombuffer(one, "<i2").astype(np.int16), np.frombuffer(other, "<i2").astype(np.int16))


def _levels_db(pcm: Pcm) -> np.ndarray:
    """Return (frames, bins) power in dB re full scale."""
    window = np.hanning(_WINDOW)
    padded = np.pad(pcm.astype(np.float64) / 32768, (0, max(0, _WINDOW - pcm.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP] * window
    power = (np.abs(np.fft.rfft(frames, axis=1)) / (window.sum() / 2)) ** 2
    levels: np.ndarray = 10 * np.log10(np.maximum(power, _FLOOR))
    return levels
