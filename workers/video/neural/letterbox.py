"""A frame fitted into a detector's square input: top left, its proportions kept, black where it leaves room.

Sizes, rounding and interpolation are those of insightface: they decide which pixels are compared.
"""

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.pixels import Float, Mask

MEAN, STD = 127.5, 128.0
_NO_PICTURE = (0 - MEAN) / STD  # black, as the graph sees it


class FloatLetterbox:
    """Fills planes of floats, for a graph that takes RGB, (x - 127.5) / 128. Not thread-safe."""

    def __init__(self, planes: Float) -> None:
        """Take the buffer `planes` (3, side, side)."""
        self._planes = planes
        self._fitted = np.empty((0, 0, 3), np.uint8)
        self._channels = [np.empty((0, 0), np.uint8)] * 3

    def fill(self, frame: Frame) -> float:
        """Fit `frame` (H, W, 3) into the buffer; return how many times smaller it is there (a factor)."""
        rows, columns = _fitted(frame, self._planes.shape[1])
        if (rows, columns) != self._fitted.shape[:2]:
            self._planes.fill(_NO_PICTURE)  # what the picture leaves free is padding
            self._fitted = np.empty((rows, columns, 3), np.uint8)
            self._channels = [np.empty((rows, columns), np.uint8) for _ in range(3)]
        _resize(frame, self._fitted)
        cv2.split(self._fitted, self._channels)
        for plane, values in zip(self._planes, reversed(self._channels), strict=True):
            _to_range(values, plane[:rows, :columns])
        return float(rows / frame.shape[0])


class ByteLetterbox:
    """Fills a picture of bytes, for a graph that converts by itself. Not thread-safe."""

    def __init__(self, canvas: Frame) -> None:
        """Take the buffer `canvas` (side, side, 3) BGR."""
        self._canvas = canvas
        self._size = (0, 0)

    def fill(self, frame: Frame) -> float:
        """Fit `frame` (H, W, 3) into the buffer; return how many times smaller it is there (a factor)."""
        rows, columns = _fitted(frame, self._canvas.shape[0])
        if (rows, columns) != self._size:
            self._canvas.fill(0)
            self._size = rows, columns
        _resize(frame, self._canvas[:rows, :columns])
        return float(rows / frame.shape[0])


def _fitted(frame: Frame, side: int) -> tuple[int, int]:
    """Return the rows and columns that `frame` takes of a square of `side` px."""
    height, width = frame.shape[:2]
    if height > width:
        return side, max(int(side / (height / width)), 1)
    return max(int(side * (height / width)), 1), side


def _resize(frame: Frame, into: Frame) -> None:
    rows, columns = into.shape[:2]
    cv2.resize(frame, (columns, rows), dst=into, interpolation=_interpolation(frame.shape, rows, columns))


def _interpolation(shape: tuple[int, ...], rows: int, columns: int) -> int:
    """Return the cheapest way to what linear interpolation gives.

    Shrunk by an odd whole factor, as 1080p is to 640 px, every place asked for is the middle of a px: nothing is
    interpolated, and taking that px costs a third.
    """
    factor = shape[0] // rows
    middles = factor % 2 == 1 and shape[:2] == (factor * rows, factor * columns)
    return cv2.INTER_NEAREST_EXACT if middles else cv2.INTER_LINEAR


def _to_range(values: Mask, plane: Float) -> None:
    """Write `values` (H, W) into `plane` (H, W) as (x - 127.5) / 128. The corners of `values` are overwritten.

    OpenCV's one conversion from bytes to scaled floats in Python's reach is `normalize`, which stretches what it finds
    from least to most; so both ends of the range are put where it finds them. It takes 0.4 of the time of any
    arithmetic operation, and is exact: the scale is a power of two.
    """
    first, last = values[0, 0], values[-1, -1]
    values[0, 0], values[-1, -1] = 0, 255
    cv2.normalize(values, plane, -MEAN / STD, MEAN / STD, cv2.NORM_MINMAX, cv2.CV_32F)
    plane[0, 0], plane[-1, -1] = ((float(value) - MEAN) / STD for value in (first, last))
