"""The synthesiser's prior noise as a fixed function of the frame, so that a replay draws the same."""

import numpy as np
from numpy.typing import NDArray

CHANNELS = 192
_PERIOD = 2048  # frames, 20 s: nobody hears noise repeat, and a table costs nothing while the stream runs
_SEED = 0x52_56_43  # the letters RVC
_SCALE = 0.66666  # of the distribution that the networks were trained with


class FrameNoise:
    """Normal noise by absolute frame number."""

    def __init__(self) -> None:
        """Draw the table (192, 2048), once for all streams."""
        draw = np.random.Generator(np.random.Philox(_SEED)).standard_normal((CHANNELS, _PERIOD), np.float32)
        self._table = draw * np.float32(_SCALE)

    def __call__(self, first: int, frames: int) -> NDArray[np.float32]:
        """Return the noise (192, frames) of frames `first`, `first` + 1, ...; negative numbers are frames too."""
        return self._table[:, (first + np.arange(frames)) % _PERIOD]
