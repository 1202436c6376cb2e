"""What converted speech is judged by: whose voice it is, whether the original leaks, whether splices click."""

from collections.abc import Iterable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from workers.models import vendored
from workers.voice.engine import SAMPLE_RATE, Pcm

Embedding = NDArray[np.float32]  # (256,) unit length

_HOP, _WINDOW = 160, 400  # samples: the encoder's 10 ms and 25 ms
_PARTIAL, _STEP = 160, 80  # frames: partial utterances of 1.6 s, every 0.8 s
_LEVEL = 10 ** (-30 / 20)  # root mean square the encoder was trained at
_QUIET_DB = 35.0  # below the loud frames' level: pauses, which belong to nobody

_LEAK_WINDOW, _LEAK_STEP, _LEAK_LAG = 3200, 1600, 16_000  # samples: 200 ms, 100 ms, 1 s
_LEAK_CORRELATION = 0.95
_VOICED_RMS = 0.005  # -46 dBFS
_PERIODICITY = 0.5


class SpeakerEncoder:
    """GE2E speaker embeddings (Wan et al. 2018, Resemblyzer's weights)."""

    def __init__(self) -> None:
        """Load the vendored graph and its mel filter bank."""
        self._session = vendored.session("ge2e.onnx")
        self._mel = vendored.arrays("ge2e_mel.npy")["array"]  # (40, 201)
        self._taper = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)

    def __call__(self, pcm: Pcm) -> Embedding:
        """Return the unit embedding of speech; use at least 10 s.

        Raises `ValueError` when fewer than 1.6 s remain after pauses are cut.
        """
        mel = self._mel_frames(pcm)
        if len(mel) < _PARTIAL:
            raise ValueError(f"{len(mel) * _HOP / SAMPLE_RATE:.1f} s of sound; a speaker embedding needs 1.6 s")
        partials = sliding_window_view(mel, _PARTIAL, axis=0)[::_STEP].transpose(0, 2, 1)
        (embeddings,) = self._session.run(None, {"mel": np.ascontiguousarray(partials)})
        mean = np.mean(embeddings, axis=0)
        return np.asarray(mean / np.linalg.norm(mean), np.float32)

    def _mel_frames(self, pcm: Pcm) -> NDArray[np.float32]:
        """Return mel power (frames, 40) without pauses, at the encoder's level."""
        samples = np.pad(pcm.astype(np.float32) / 32768, _WINDOW // 2)
        spectra = np.fft.rfft(sliding_window_view(samples, _WINDOW)[::_HOP] * self._taper, axis=1)
        power = np.abs(spectra) ** 2
        level_db = 10 * np.log10(power.sum(axis=1) + 1e-9)
        kept = level_db > np.percentile(level_db, 95) - _QUIET_DB
        mean_square = np.mean(power[kept]) * power.shape[1] * 2 / (_WINDOW * float(np.sum(self._taper**2)))
        return np.asarray(power[kept] @ self._mel.T * (_LEVEL**2 / max(mean_square, 1e-12)), np.float32)


def similarity(one: Embedding, other: Embedding) -> float:
    """Return the cosine of two embeddings: the same speaker .7 to .96, two speakers .3 to .69."""
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


def click_ratio(pcm: Pcm, positions: Iterable[int], *, around: int = 400) -> NDArray[np.float64]:
    """Return the largest second difference at each position over the median one within `around` samples of it.

    Natural speech stays below 14 in 99 of 100 places. The median has one quantisation step added, so that digital
    silence does not divide by zero.
    """
    bend = np.abs(np.diff(pcm.astype(np.float64), 2))  # bend[i] is centred on sample i + 1
    ratios = []
    for position in positions:
        here = bend[max(0, position - 3) : position + 2]
        near = bend[max(0, position - around) : position + around]
        ratios.append(float(here.max(initial=0.0) / (np.median(near) + 1.0)) if len(near) else 0.0)
    return np.array(ratios)


def leaked_windows(original: Pcm, output: Pcm) -> list[int]:
    """Return the starts of the 200 ms windows of voiced input that the output contains.

    A window leaks when its normalised correlation with the output, at any lag within 1 s either way, passes .95 in
    magnitude.
    """
    source, sound = original.astype(np.float64) / 32768, output.astype(np.float64) / 32768
    length = min(len(source), len(sound))
    leaks = []
    for start in range(0, length - _LEAK_WINDOW + 1, _LEAK_STEP):
        window = source[start : start + _LEAK_WINDOW]
        if _is_voiced(window):
            first = max(0, start - _LEAK_LAG)
            searched = sound[first : start + _LEAK_WINDOW + _LEAK_LAG]
            if _peak_correlation(window, searched) > _LEAK_CORRELATION:
                leaks.append(start)
    return leaks


def _is_voiced(window: NDArray[np.float64]) -> bool:
    """Whether sound repeats after 2 to 16.7 ms, loudly enough."""
    if np.sqrt(np.mean(window**2)) < _VOICED_RMS:
        return False
    spectrum = np.abs(np.fft.rfft(window, 2 * len(window))) ** 2
    repeats = np.fft.irfft(spectrum)[SAMPLE_RATE // 500 : SAMPLE_RATE // 60] / np.sum(window**2)
    return float(repeats.max()) > _PERIODICITY


def _peak_correlation(window: NDArray[np.float64], searched: NDArray[np.float64]) -> float:
    """Return the largest magnitude of the normalised correlation of `window` at every place inside `searched`."""
    size = 1 << (len(searched) + len(window)).bit_length()
    product = np.fft.rfft(searched, size) * np.conj(np.fft.rfft(window, size))
    dots = np.fft.irfft(product, size)[: len(searched) - len(window) + 1]
    energy = np.concatenate(((0.0,), np.cumsum(searched**2)))
    energies = np.maximum(energy[len(window) :] - energy[: -len(window)], 1e-9)
    return float(np.max(np.abs(dots) / np.sqrt(energies * np.sum(window**2))))
