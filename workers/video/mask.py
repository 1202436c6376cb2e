"""Where the worn face shows: the visible part of the oval, soft at its rim, open at the performer's eyes and mouth."""

from dataclasses import dataclass

import cv2
import numpy as np

from workers.video.pixels import Float, Mask, u8
from workers.video.roi import Roi
from workers.video.topology import INNER_LIPS, LEFT_EYE, OUTER_LIPS, OVAL, RIGHT_EYE, Index
from workers.video.warp import Warped

RIM = 0.045  # of the face size: the worn face appears over twice this, from the outline of the mesh inwards
_TAIL = 40  # what is left half a cell beyond the outline after eroding by one reach and blurring by two
_SHOWN = 64  # opacity from which a cell counts as covered: a quarter, about the middle of the rim
_STRETCH = np.clip(np.rint((np.arange(256) - _TAIL) * (255 / (255 - 2 * _TAIL))), 0, 255).astype(np.uint8)
"""Opacity after blurring to opacity shown: nothing beyond the outline, everything well inside."""
_OPENING_SOFTNESS = 0.014  # of the face size


@dataclass(frozen=True, slots=True, eq=False)
class FaceMask:
    """The opacity of the worn face, and which cells tell its colour."""

    alpha: Mask  # (H, W) 0..255
    cells: Mask  # (rows, columns) opacity without the openings, 0..255
    skin_cells: Mask  # (rows, columns) the same, eyes and lips left out
    lip_cells: Mask  # (rows, columns) the same of the lips alone
    covered: float
    """The share of the face's outline, 0..1, that the worn face shows in."""


def face_mask(warped: Warped, landmarks: Float, roi: Roi) -> FaceMask:
    """Return the mask of a face drawn as `warped` onto `landmarks` (478, 2 or more) frame px."""
    columns, rows = roi.cells
    coarse = roi.local(landmarks, roi.cell)
    oval = _filled((rows, columns), coarse, OVAL)
    outline = cv2.countNonZero(oval)
    oval &= u8(cv2.resize(warped.visible, (columns, rows), interpolation=cv2.INTER_NEAREST))
    reach = max(1, round(roi.face_px / roi.cell * RIM))
    kernel = (2 * reach + 1, 2 * reach + 1)
    # A face cut by the frame's edge must not fade there, so neither step sees the rectangle's border as outside.
    soft = cv2.erode(oval, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, kernel))
    soft = cv2.blur(cv2.blur(soft, kernel, borderType=cv2.BORDER_REPLICATE), kernel, borderType=cv2.BORDER_REPLICATE)
    soft = u8(cv2.LUT(soft, _STRETCH))

    alpha = cv2.resize(soft, (roi.width, roi.height), interpolation=cv2.INTER_LINEAR)
    alpha = cv2.multiply(alpha, warped.skin, scale=1 / 255)
    openings = _filled((roi.height, roi.width), roi.local(landmarks), RIGHT_EYE, LEFT_EYE, INNER_LIPS)
    blur = 2 * max(1, int(roi.face_px * _OPENING_SOFTNESS)) + 1
    opened = cv2.blur(openings, (blur, blur), borderType=cv2.BORDER_REPLICATE)
    alpha = cv2.subtract(alpha, cv2.multiply(alpha, opened, scale=1 / 255))

    skin = cv2.resize(warped.skin, (columns, rows), interpolation=cv2.INTER_AREA)
    cells = u8(cv2.multiply(soft, skin, scale=1 / 255))
    features = _filled((rows, columns), coarse, RIGHT_EYE, LEFT_EYE, OUTER_LIPS)
    features = u8(cv2.dilate(features, np.ones((3, 3), np.uint8)))
    skin_cells = u8(cv2.min(cells, cv2.bitwise_not(features)))
    shown = int(np.count_nonzero(cells >= _SHOWN))
    mouth = _filled((rows, columns), coarse, OUTER_LIPS)
    inner = u8(cv2.resize(openings, (columns, rows), interpolation=cv2.INTER_AREA))
    lip_cells = u8(cv2.min(cv2.subtract(mouth, inner), cells))
    return FaceMask(u8(alpha), cells, skin_cells, lip_cells, shown / max(outline, 1))


def _filled(shape: tuple[int, int], points: Float, *outlines: Index) -> Mask:
    """Return a (rows, columns) canvas with `outlines` of `points` filled to a sixteenth of a pixel."""
    canvas = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.round(points[outline] * 16).astype(np.int32)], 255, shift=4)
    return canvas
