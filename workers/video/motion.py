"""Following a region that only has to stay covered: where did this patch of the picture go? No model, about 0.1 ms.

Bystanders and lost faces are blurred, so a position to a twentieth of a face is enough: the patch that was there when
the face was last seen is searched for around its last place, at a fixed small size whatever the face's. The patch is
not renewed, so errors do not add up.
"""

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.faces import Box
from workers.video.pixels import Float, f32

_PATCH = 24
_WINDOW = 2 * _PATCH
_ALIKE = 0.5  # correlation below which nothing was recognised and the region stays where it is
_FLAT = 1.0  # levels: a patch that varies less is everywhere and nowhere


class RegionFollower:
    """One covered region."""

    def __init__(self, frame: Frame, box: Box) -> None:
        """Remember what `box` (4,) xyxy px shows in `frame`."""
        self.box = box
        self._patch = _look(frame, box, 1.0, _PATCH)

    def follow(self, frame: Frame) -> Box:
        """Move the box to where its patch is in `frame`; return it."""
        if float(self._patch.std()) < _FLAT:
            return self.box
        window = _look(frame, self.box, _WINDOW / _PATCH, _WINDOW)
        likeness = f32(cv2.matchTemplate(window, self._patch, cv2.TM_CCOEFF_NORMED))
        _, best, _, (column, row) = cv2.minMaxLoc(likeness)
        if best >= _ALIKE:
            peak = f32([column + _vertex(likeness[row], column), row + _vertex(likeness[:, column], row)])
            cell = (self.box[2:] - self.box[:2]) / _PATCH
            self.box = f32(self.box + np.tile((peak - (_WINDOW - _PATCH) / 2) * cell, 2))
        return self.box


def _vertex(likeness: Float, peak: int) -> float:
    """Return how far, in -0.5..0.5, the vertex of the parabola through `peak` and its neighbours lies from it."""
    if not 0 < peak < len(likeness) - 1:
        return 0.0
    before, at, after = (float(value) for value in likeness[peak - 1 : peak + 2])
    bend = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / bend, -0.5, 0.5)) if bend < -1e-9 else 0.0


def _look(frame: Frame, box: Box, factor: float, size: int) -> Float:
    """Return the (size, size) grey picture of `box` enlarged `factor` times about its centre."""
    centre, extent = (box[:2] + box[2:]) / 2, np.maximum((box[2:] - box[:2]) * factor, 1.0)
    scale = size / extent
    affine = np.array([[scale[0], 0, size / 2 - scale[0] * centre[0]], [0, scale[1], size / 2 - scale[1] * centre[1]]])
    seen = cv2.warpAffine(frame, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.cvtColor(seen, cv2.COLOR_BGR2GRAY).astype(np.float32)
