"""ContentVec: what is said, without who says it, 50 times a second."""

import numpy as np
from numpy.typing import NDArray

from workers.models.contract import FREE, GraphContract, Tensor
from workers.models.manifest import CONTENT_ENCODER
from workers.models.runtime import Runtime
from workers.voice.neural.lengths import tried
from workers.voice.neural.net import Net
from workers.voice.neural.windows import FRAME, GRID, Sound

CHANNELS = 768
CONTRACT = GraphContract(
    "the ContentVec encoder of RVC v2 (768 channels, layer 12)",
    (Tensor("source", "float32|float16", (1, 1, FREE)),),
    (Tensor("embed", "float32|float16", (1, None, CHANNELS)),),
)

_RECEPTIVE = 400  # samples that one frame is made of
_TRIED = (16 * GRID, 33 * GRID)  # samples, at load

Features = NDArray[np.float32]  # (T, 768)


def frame_count(samples: int) -> int:
    """Return the frames that the convolution stack makes of so many samples: 400 give 1, 16000 give 49."""
    return max(0, (samples - _RECEPTIVE) // GRID + 1)


class ContentEncoder:
    """Sound in, content features out."""

    def __init__(self, net: Net) -> None:
        """Use a graph that fulfils `CONTRACT`."""
        self._net = net
        self._dtype = net.inputs[0].dtype

    def __call__(self, sound: Sound) -> Features:
        """Return the features (T, 768) of 16 kHz sound (N,), T = (N - 400) // 320 + 1.

        Raises `ValueError` when the graph gives another number of frames: they would be laid beside the wrong pitch.
        """
        (found,) = self._net.run({"source": sound.astype(self._dtype, copy=False)[None, None]})
        expected = (1, frame_count(len(sound)), CHANNELS)
        if found.shape != expected:
            raise ValueError(f"the content encoder gave {found.shape} for {len(sound)} samples; {expected} is needed")
        return np.asarray(found[0], np.float32)


def load_encoder(runtime: Runtime, graph: bytes) -> ContentEncoder:
    """Open an encoder and try it at two lengths.

    Raises `ModelRefused` for another graph, one that is locked to a length inside, or numbers on this device that mean
    nothing.
    """
    net = runtime.open(graph, CONTRACT, label=CONTENT_ENCODER)
    for samples in _TRIED:
        falling = np.sin(40 * np.log1p(np.arange(samples) / GRID)) / 4
        feeds = {"source": falling.astype(net.inputs[0].dtype)[None, None]}
        expected = (1, frame_count(samples), CHANNELS)
        tried(net, feeds, label=CONTENT_ENCODER, length=f"{samples} samples", expected=expected)
    return ContentEncoder(net)


def closed(features: Features) -> Features:
    """Return the features with the last one repeated: a window's last frame has no full 400 samples of its own."""
    return np.concatenate((features, features[-1:]))


def stretch(features: Features, samples: int) -> Features:
    """Return `closed` features at the synthesiser's 100 Hz: each twice, cut to one per 160 of `samples`."""
    return np.repeat(features, 2, axis=0)[: samples // FRAME]
