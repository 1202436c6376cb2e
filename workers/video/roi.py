"""The part of a frame that one face needs, on a grid that does not move with the face.

Three resolutions are used: the frame's px; map px (`step` px each) for the warp; cells (`cell` px each) for masks and
colour. The grid is the frame's own, so that a slowly moving face does not change the phase of its cells and shimmer.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.faces import bounds
from workers.video.geometry import face_size
from workers.video.pixels import Float, f32, u8

_MAP_CELLS_ACROSS = 85  # finer than the mesh's triangles, which are about a fortieth of a face
_MAX_STEP = 4
_MARGIN_PX = 4
_MIN_SIDE = 16


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle of the frame, aligned outwards to whole cells; the last cells may hang over the frame's edge."""

    left: int
    top: int
    width: int
    height: int
    step: int
    face_px: float

    @property
    def cell(self) -> int:
        """Side of a mask and colour cell, px."""
        return 2 * self.step

    @property
    def cells(self) -> tuple[int, int]:
        """(columns, rows) of cells."""
        return self.width // self.cell, self.height // self.cell

    def local(self, points: Float, pixel: int = 1) -> Float:
        """Return `points` (N, 2 or more) frame px relative to this rectangle, in units of `pixel` px."""
        xy = points[:, :2] - np.array([self.left, self.top], np.float32)
        return f32((xy + 0.5) / pixel - 0.5)

    def cut(self, frame: Frame) -> Frame:
        """Return the (height, width, 3) part of `frame`; px beyond the edge repeat the edge."""
        height, width = frame.shape[:2]
        inside = frame[self.top : self.top + self.height, self.left : self.left + self.width]
        below, right = self.top + self.height - height, self.left + self.width - width
        if below <= 0 and right <= 0:
            return inside
        return u8(cv2.copyMakeBorder(inside, 0, max(below, 0), 0, max(right, 0), cv2.BORDER_REPLICATE))

    def put(self, frame: Frame, pixels: Frame) -> None:
        """Write `pixels` (height, width, 3) into `frame`, leaving out what hangs over its edge."""
        part = frame[self.top : self.top + self.height, self.left : self.left + self.width]
        part[:] = pixels[: part.shape[0], : part.shape[1]]


def roi_of(landmarks: Float, frame: Frame) -> Roi | None:
    """Return the rectangle that the face with `landmarks` (N, 2 or more) px needs; None where too little is in view."""
    height, width = frame.shape[:2]
    face_px = face_size(landmarks)
    step = int(np.clip(round(face_px / _MAP_CELLS_ACROSS), 1, _MAX_STEP))
    cell = 2 * step
    x0, y0, x1, y1 = bounds(landmarks)
    left, top = max(int(x0) - _MARGIN_PX, 0) // cell * cell, max(int(y0) - _MARGIN_PX, 0) // cell * cell
    right, bottom = min(int(x1) + _MARGIN_PX, width), min(int(y1) + _MARGIN_PX, height)
    if right - left < _MIN_SIDE or bottom - top < _MIN_SIDE:
        return None
    return Roi(left, top, -(-(right - left) // cell) * cell, -(-(bottom - top) // cell) * cell, step, face_px)
