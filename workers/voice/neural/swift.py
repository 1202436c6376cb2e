"""SwiftF0 (Nieradzik 2025): a 135 kB network that comes in its wheel, so that it needs no download."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from schemas.errors import ModelMissing
from workers.models.contract import FREE, GraphContract, Tensor
from workers.voice.neural.f0 import centres, on_grid
from workers.voice.neural.net import Net
from workers.voice.neural.pitch import Track
from workers.voice.neural.windows import History, Sound, Window

SWIFT_CONTRACT = GraphContract(
    "SwiftF0",
    (
        Tensor("audio", "float32", (1, FREE)),
        Tensor("fmin", "float32", ()),
        Tensor("fmax", "float32", ()),
    ),
    (Tensor("pitch", "float64|float32", (1, None)), Tensor("confidence", "float32", (1, None))),
)
_SWIFT_HOP = 256
_SWIFT_RANGE = (np.float32(50.0), np.float32(1100.0))  # Hz, what coarse pitch can say
_SWIFT_VOICED = 0.5  # its authors' calibration
_SWIFT_SILENCE = 1e-3  # peak below which its answer means nothing (its authors' own guard)


def swift_graph() -> bytes:
    """Return the graph that lies in the `swift-f0` wheel (MIT). Raises `ModelMissing` without the wheel."""
    spec = find_spec("swift_f0")
    if spec is None or not spec.submodule_search_locations:
        raise ModelMissing("SwiftF0 is not installed: pip install -e '.[neural]', or choose another F0")
    return (Path(spec.submodule_search_locations[0]) / "model.onnx").read_bytes()


class SwiftStream:
    """SwiftF0 on the windows of one stream.

    Its frames of 16 ms start with the window, which lies on another grid: pitch is near that of the whole file, to 25
    cents in 95 of 100 voiced frames of speech at 96 ms a chunk and more, and not equal to it as RMVPE's is.
    """

    def __init__(self, net: Net) -> None:
        """Use the graph of `swift_graph`."""
        self._net = net

    def hear(self, block: Sound) -> None:
        """Need nothing beyond the history."""

    def track(self, history: History, window: Window) -> Track:
        """Return F0 of the window's frames; its own frames are 16 ms apart."""
        sound = history.read(window.start, window.start + window.samples)
        pitch, confidence = self._net.run(
            {"audio": sound[None], "fmin": np.asarray(_SWIFT_RANGE[0]), "fmax": np.asarray(_SWIFT_RANGE[1])}
        )
        frames = pitch.shape[1]
        peaks = np.abs(sound[: frames * _SWIFT_HOP].reshape(frames, _SWIFT_HOP)).max(axis=1)
        voiced = (confidence[0] >= _SWIFT_VOICED) & (peaks >= _SWIFT_SILENCE)
        at = window.start + _SWIFT_HOP * np.arange(frames)
        return on_grid(at, np.where(voiced, pitch[0], 0.0), centres(window))
