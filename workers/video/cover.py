"""Covering: what is shown instead of a face that cannot be swapped.

A blur that can be undone, or looked through, is no cover. A frame is reduced to twelve pixels on its longer side, a
face to six, and drawn back smoothly: no features are left to enhance. What is covered is also dimmed: that says
"covered" to the viewer, and keeps an evenly lit face from resembling its blurred self (structural similarity 0.98
for a dark one that is only blurred, below 0.86 when dimmed).
"""

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.faces import Box
from workers.video.pixels import u8

_FRAME_CELLS = 12
_FACE_CELLS = 6
_DIM = 0.6
FACE_REACH = 1.5  # detector boxes end at the brows and chin; hair and ears recognise people too


def covered(frame: Frame) -> Frame:
    """Return `frame` (H, W, 3) blurred beyond recognition and dimmed."""
    height, width = frame.shape[:2]
    scale = _FRAME_CELLS / max(height, width)
    cells = (max(round(width * scale), 1), max(round(height * scale), 1))
    return _through(frame, cells)


def blank(frame: Frame) -> Frame:
    """Return a black frame of the size of `frame`."""
    return np.zeros_like(frame)


def cover_region(frame: Frame, box: Box) -> None:
    """Blur an ellipse around the face in `box` (4,) xyxy px of `frame` (modified) beyond recognition."""
    height, width = frame.shape[:2]
    centre, half = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) / 2 * FACE_REACH, 2.0)
    half = np.maximum(half, half.max() * 0.8)  # a box seen from the side is narrow, the head is not
    low = np.maximum(np.floor(centre - half), 0).astype(int)
    high = np.minimum(np.ceil(centre + half), [width, height]).astype(int)
    if (high - low).min() < 1:
        return
    part = frame[low[1] : high[1], low[0] : high[0]]
    cells = (min(_FACE_CELLS, part.shape[1]), min(_FACE_CELLS, part.shape[0]))
    hidden = _through(part, cells)
    mask = np.zeros(part.shape[:2], np.uint8)
    local, axes = (centre - low) * 16, half * 16
    middle = (round(float(local[0])), round(float(local[1])))
    cv2.ellipse(mask, middle, (round(float(axes[0])), round(float(axes[1]))), 0, 0, 360, 255, -1, cv2.LINE_AA, shift=4)
    cv2.copyTo(hidden, mask, part)


def _through(pixels: Frame, cells: tuple[int, int]) -> Frame:
    """Return `pixels` drawn from (columns, rows) `cells` X."""
    means = cv2.resize(pixels, cells, interpolation=cv2.INTER_AREA)
    means = cv2.GaussianBlur(means, (3, 3), 0) if min(cells) >= 3 else means
    means = cv2.convertScaleAbs(means, alpha=_DIM)
    size = (pixels.shape[1], pixels.shape[0])
    return u8(cv2.resize(means, size, interpolation=cv2.INTER_CUBIC))
