"""RMVPE: mel front end, padding rule and decoding of the salience graph (F0 of a singing or speaking voice).

Front end: 16 kHz, periodic Hann of 1024, hop 160, magnitude, 128 HTK mels from 30 to 8000 Hz with Slaney's area
normalisation, ln(max(x, 1e-5)). Frame j is centred on sample 160 j.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from workers.models.contract import GraphContract, Tensor
from workers.models.manifest import PITCH
from workers.models.runtime import Runtime
from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural.lengths import tried
from workers.voice.neural.net import Net
from workers.voice.neural.pitch import Track
from workers.voice.neural.windows import FRAME, History, Sound, Window

MELS = 128
CENTS_BINS = 360
FFT = 1024
MULTIPLE = 32  # the graph halves its time axis five times
CONTRACT = GraphContract(
    "RMVPE's salience graph",
    (Tensor(None, "float32|float16", (1, MELS, None)),),
    (Tensor(None, "float32|float16", (1, None, CENTS_BINS)),),
)

_TRIED = (MULTIPLE, 3 * MULTIPLE)  # frames, at load
_LOW_HZ, _HIGH_HZ = 30.0, 8000.0
_FLOOR = 1e-5
_CENTS = 20.0 * np.arange(CENTS_BINS) + 1997.3794084376191
_AROUND = 4  # bins either side of the largest that the mean is taken over
_UNVOICED = 0.03
# Frames a matrix product: from 2^20 multiplications on OpenBLAS starts threads, and on busy cores waiting for them took
# ten times as long as the product.
_AT_ONCE = 15

Mel = NDArray[np.float32]  # (128, T)


def filter_bank() -> NDArray[np.float32]:
    """Return the triangles (513, 128): HTK mel scale, each of unit area in Hz."""
    low, high = 2595 * np.log10(1 + np.array((_LOW_HZ, _HIGH_HZ)) / 700)
    edges_mel = np.linspace(float(low), float(high), MELS + 2)
    edges = 700 * (10 ** (edges_mel / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])
    return np.asarray(triangles, np.float32)


_BANK = filter_bank()
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)


def log_mel(padded: Sound) -> Mel:
    """Return the frames (128, (N - 1024) // 160 + 1) of sound that has 512 samples before its first frame's centre."""
    magnitudes = np.abs(np.fft.rfft(sliding_window_view(padded, FFT)[::FRAME] * _HANN, axis=1))
    mels = [magnitudes[at : at + _AT_ONCE] @ _BANK for at in range(0, len(magnitudes), _AT_ONCE)]
    return np.asarray(np.log(np.maximum(np.concatenate(mels), _FLOOR)).T, np.float32)


def centred(sound: Sound) -> Sound:
    """Return whole-file sound padded by reflection, as `log_mel` takes it: 1 + N // 160 frames."""
    return np.pad(sound, FFT // 2, mode="reflect")


def decode(salience: NDArray[np.floating]) -> Track:
    """Return F0 (T,) of salience (T, 360): the mean of cents around the largest bin, 0 where none is above .03."""
    best = salience.argmax(axis=1)
    near = best[:, None] + np.arange(-_AROUND, _AROUND + 1)
    inside = (near >= 0) & (near < CENTS_BINS)
    near = np.clip(near, 0, CENTS_BINS - 1)
    weight = np.where(inside, np.take_along_axis(salience, near, axis=1), 0).astype(np.float64)
    cents = (weight * _CENTS[near]).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-12)
    voiced = salience.max(axis=1) > _UNVOICED
    return np.where(voiced, 10 * 2 ** (cents / 1200), 0).astype(np.float32)


class Rmvpe:
    """Log mel in, F0 out."""

    def __init__(self, net: Net) -> None:
        """Use a graph that fulfils `CONTRACT`; its tensors are bound by position, no official source names them."""
        self._net = net
        self._input = str(net.inputs[0].name)
        self._dtype = net.inputs[0].dtype

    def __call__(self, mel: Mel) -> Track:
        """Return F0 (T,) in Hz, 0 = unvoiced, of mel (128, T). T is padded on the right to a multiple of 32.

        Raises `ValueError` when the graph gives another number of frames or numbers that are not finite.
        """
        frames = mel.shape[1]
        padded = np.pad(mel, ((0, 0), (0, -frames % MULTIPLE)))
        (salience,) = self._net.run({self._input: padded[None].astype(self._dtype, copy=False)})
        expected = (1, padded.shape[1], CENTS_BINS)
        if salience.shape != expected:
            raise ValueError(f"RMVPE gave {salience.shape}; {expected} is needed")
        if not np.isfinite(salience).all():
            raise ValueError("RMVPE gave numbers that are not finite")
        return decode(np.asarray(salience[0, :frames], np.float32))


def load_rmvpe(runtime: Runtime, graph: bytes) -> Rmvpe:
    """Open RMVPE and try it at two lengths.

    Raises `ModelRefused` for another graph, one that is locked to a length inside, or numbers on this device that mean
    nothing.
    """
    net = runtime.open(graph, CONTRACT, label=PITCH)
    for frames in _TRIED:
        times = np.arange(frames * FRAME) / SAMPLE_RATE
        tone = sum(np.sin(2 * np.pi * 220 * order * times) / order for order in range(1, 9)) / 8
        mel = log_mel(centred(np.asarray(tone, np.float32)))[None, :, :frames]
        feeds = {str(net.inputs[0].name): mel.astype(net.inputs[0].dtype)}
        tried(net, feeds, label=PITCH, length=f"{frames} frames", expected=(1, frames, CENTS_BINS))
    return Rmvpe(net)


class RmvpeStream:
    """RMVPE on the windows of one stream. The frames that make up the multiple of 32 are real past, not padding."""

    def __init__(self, rmvpe: Rmvpe) -> None:
        """Start with silence behind."""
        self._rmvpe = rmvpe
        self._mel: Mel = np.zeros((MELS, 0), np.float32)  # the frames whose 1024 samples had arrived
        self._first = 0  # absolute number of the first of them

    def hear(self, block: Sound) -> None:
        """Need nothing beyond the history."""

    def track(self, history: History, window: Window) -> Track:
        """Return F0 of the window's frames."""
        stop = window.first_frame + window.frames
        first = stop - -(-window.frames // MULTIPLE) * MULTIPLE
        kept = self._mel[:, first - self._first :] if first >= self._first else self._mel[:, :0]
        mel = np.concatenate((kept, log_mel(_around(history, first + kept.shape[1], stop))), axis=1)
        arrived = (history.end - FFT // 2) // FRAME + 1
        self._mel, self._first = mel[:, : arrived - first], first
        return self._rmvpe(mel)[-window.frames :]


def _around(history: History, first: int, stop: int) -> Sound:
    """Return the samples that frames [first, stop) are made of; what has not arrived yet is reflected."""
    end = (stop - 1) * FRAME + FFT // 2
    heard = history.read(first * FRAME - FFT // 2, min(end, history.end))
    missing = max(0, end - history.end)
    return np.concatenate((heard, heard[-2 : -2 - missing : -1]))
