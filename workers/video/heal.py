"""Taking a smile out of a portrait, once, so that its wearer need not smile.

The performer's own inner mouth shows through the mask, but mesh and mouth never agree to a pixel: whatever the portrait
has between its lips (teeth, dark corners) would appear as specks along the performer's. So lip colour is drawn over it.
Smiling also folds the cheeks from the nose to the corners of the mouth; on a face at rest such folds look like wounds.
They are faded towards the skin around them, the more the wider the portrait smiles. Part of them always stays: it is
the person's.
"""

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.geometry import face_size
from workers.video.pixels import Float, Mask, f32, u8
from workers.video.topology import (
    INNER_LIPS,
    LEFT_EYE,
    LEFT_FOLD,
    LEFT_MOUTH_CORNER,
    NOSE_BOTTOM,
    OUTER_LIPS,
    OVAL,
    RIGHT_EYE,
    RIGHT_FOLD,
    RIGHT_MOUTH_CORNER,
    Index,
)

_SEAM = 0.018  # of the face size: how far beyond the inner lips teeth and shadow reach
_FOLD_WIDTH = 0.11  # of the face size
_SOFT = 0.03  # sigma of the fold's edge, of the face size
_AROUND = 0.09  # sigma of the skin around, of the face size
_AT_REST, _SMILING = 0.80, 1.0  # mouth widths, of the distance between the eyes
_FADED = 0.55  # of the folds of the widest smile


def without_smile(picture: Frame, points: Float) -> Frame:
    """Return `picture` (S, S, 3) of the face with mesh `points` (468 or more, 2) px with its mouth closed over."""
    size = face_size(points)
    return _closed_mouth(_without_folds(picture, points, size), points, size)


def smile(points: Float) -> float:
    """Return how widely the face with mesh `points` (468 or more, 2 or more) smiles: 0 at rest, 1 from ear to ear."""
    eyes = points[LEFT_EYE, :2].mean(axis=0) - points[RIGHT_EYE, :2].mean(axis=0)
    mouth = points[LEFT_MOUTH_CORNER, :2] - points[RIGHT_MOUTH_CORNER, :2]
    width = float(np.linalg.norm(mouth)) / max(float(np.linalg.norm(eyes)), 1e-3)
    return float(np.clip((width - _AT_REST) / (_SMILING - _AT_REST), 0, 1))


def _closed_mouth(picture: Frame, points: Float, size: float) -> Frame:
    """Return `picture` with lip colour in the place of the inner mouth."""
    side = 2 * max(1, round(size * _SEAM)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    inner = u8(cv2.dilate(_filled(picture, points, INNER_LIPS), kernel))
    closed = u8(cv2.inpaint(picture, inner, 2.0, cv2.INPAINT_TELEA))  # right where shadow lies on skin, at the corners
    mouth = _filled(picture, points, OUTER_LIPS)
    lips = mouth & ~inner
    if not lips.any():  # lips thinner than the seam
        return closed
    mixed = cv2.GaussianBlur(mouth & inner, (0, 0), size * _SEAM / 2).astype(np.float32)[..., None] / 255
    lip_colour = _mean_around(picture, lips, size * _AROUND)
    return np.rint(closed + mixed * (lip_colour - closed)).astype(np.uint8)


def _mean_around(picture: Frame, known: Mask, sigma: float) -> Float:
    """Return (S, S, 3) at each pixel the mean of `picture`'s `known` pixels nearby."""
    weight = known.astype(np.float32)[..., None] / 255
    total = cv2.GaussianBlur(picture.astype(np.float32) * weight, (0, 0), sigma)
    return f32(total / (cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-6)[..., None])


def _without_folds(picture: Frame, points: Float, size: float) -> Frame:
    """Return `picture` with the folds between nose and mouth faded."""
    fade = _FADED * smile(points)
    if fade <= 0:
        return picture
    folds = np.zeros(picture.shape[:2], np.uint8)
    for fold in (RIGHT_FOLD, LEFT_FOLD):
        line = [np.round(points[fold, :2] * 16).astype(np.int32)]
        cv2.polylines(folds, line, isClosed=False, color=255, thickness=max(1, round(size * _FOLD_WIDTH)), shift=4)
    features = _filled(picture, points, OUTER_LIPS, NOSE_BOTTOM)
    skin = _filled(picture, points, OVAL) & ~folds & ~u8(cv2.dilate(features, np.ones((3, 3), np.uint8)))
    around = _mean_around(picture, skin, size * _AROUND)
    mask = cv2.GaussianBlur(folds & ~features, (0, 0), size * _SOFT).astype(np.float32) / 255
    # Only what is darker than the skin around is a fold; what is lighter is the cheek.
    darker = np.minimum(picture - around, 0)
    return u8(np.clip(np.rint(picture - fade * mask[..., None] * darker), 0, 255).astype(np.uint8))


def _filled(picture: Frame, points: Float, *outlines: Index) -> Mask:
    canvas = np.zeros(picture.shape[:2], np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.round(points[outline, :2] * 16).astype(np.int32)], 255, shift=4)
    return canvas
