"""The face to wear, ready for warping: the template's picture at several sizes, with a skin likelihood each.

The likelihood keeps hair, glasses and background near the portrait's hairline from being drawn into a performer's
forehead. From the brows downwards everything is kept.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.geometry import face_size
from workers.video.heal import without_smile
from workers.video.pixels import Float, Mask, u8
from workers.video.template import FaceTemplate
from workers.video.topology import BROWS_DOWN, LEFT_CHEEK, NOSE, RIGHT_CHEEK, Index

_SMALLEST_SIDE = 48
_LAB_FLOOR = (9.0, 3.5, 3.5)  # least spread of skin in L, a, b: flash-lit cheeks are flatter than foreheads
_LAB_SLACK = (1.6, 1.3, 1.3)


@dataclass(frozen=True, slots=True, eq=False)
class SourceLevel:
    """One size of the picture."""

    texture: Frame  # (S, S, 4) BGR and skin likelihood
    points: Float  # (468, 2) px
    face_size: float  # px


@dataclass(frozen=True, slots=True, eq=False)
class SourceFace:
    """A face at halving sizes, largest first."""

    levels: tuple[SourceLevel, ...]

    def level_for(self, target_face_px: float) -> SourceLevel:
        """Return the smallest level that is no coarser than the face it is drawn onto.

        Drawing from a larger one would skip source pixels and shimmer when the face moves.
        """
        fine = [level for level in self.levels if level.face_size >= 0.9 * target_face_px]
        return fine[-1] if fine else self.levels[0]


def prepare(template: FaceTemplate) -> SourceFace:
    """Derive what warping needs from `template`."""
    face = without_smile(template.picture, template.points)
    texture = np.dstack([face, skin_likelihood(template.picture, template.points)])
    points = template.points
    levels: list[SourceLevel] = []
    while not levels or texture.shape[0] >= _SMALLEST_SIDE:
        levels.append(SourceLevel(np.ascontiguousarray(texture), points, face_size(points)))
        half = texture.shape[0] // 2
        shrink = half / texture.shape[0]
        texture = u8(cv2.resize(texture, (half, half), interpolation=cv2.INTER_AREA))
        points = ((points + 0.5) * shrink - 0.5).astype(np.float32)
    return SourceFace(tuple(levels))


def skin_likelihood(picture: Frame, points: Float) -> Mask:
    """Return (S, S): how well each pixel of `picture` fits the colour of cheeks and nose; 255 below the brows."""
    size = picture.shape[0]
    lab = cv2.cvtColor(cv2.GaussianBlur(picture, (0, 0), size / 192), cv2.COLOR_BGR2LAB).astype(np.float32)
    sample = lab[_filled(size, points, RIGHT_CHEEK, LEFT_CHEEK, NOSE) > 0]
    if not len(sample):
        return np.full((size, size), 255, np.uint8)
    middle = np.median(sample, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(sample - middle), axis=0), _LAB_FLOOR) * _LAB_SLACK
    distance = np.square((lab - middle) / spread).sum(axis=-1)  # squared, in spreads
    skin = np.clip((14 - distance) / 8, 0, 1).astype(np.float32)
    always = cv2.GaussianBlur(_filled(size, points, BROWS_DOWN), (0, 0), size * 0.012).astype(np.float32) / 255
    kept = cv2.erode(np.maximum(skin, always), np.ones((7, 7), np.uint8))
    return (cv2.GaussianBlur(kept, (0, 0), size * 0.015) * 255).astype(np.uint8)


def _filled(size: int, points: Float, *outlines: Index) -> Mask:
    canvas = np.zeros((size, size), np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.round(points[outline] * 16).astype(np.int32)], 255, shift=4)
    return canvas
