"""Array types, and narrowing of what OpenCV returns: its stubs promise any numeric array. Nothing is copied."""

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float32]
Mask = NDArray[np.uint8]  # (H, W) 0..255
Affine = NDArray[np.float64]  # (2, 3)


def u8(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return 8-bit `array` as what it is."""
    return np.asarray(array, np.uint8)


def f32(array: ArrayLike) -> Float:
    """Return single-precision `array` as what it is, anything else converted."""
    return np.asarray(array, np.float32)


def remap(pixels: NDArray[np.uint8], source: Float) -> NDArray[np.uint8]:
    """Return (H, W, C) `pixels` taken, interpolated, from px `source` (H, W, 2); beyond its edge the edge repeats."""
    no_second_map = cast("Float", None)  # the stubs demand an array, but even an empty one changes the result
    return u8(cv2.remap(pixels, source, no_second_map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
