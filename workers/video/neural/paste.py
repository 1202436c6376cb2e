"""A swapped crop on its way back into the frame. Only the part of the frame that it covers is touched, in 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.video.engine import FaceTuning, Frame
from workers.video.faces import Box, TrackMemory
from workers.video.neural import align
from workers.video.neural.soft_mask import VISIBLE, mask_for
from workers.video.pixels import Affine, Float, Mask, u8

_NOTHING = (0, 0, 0, 255)  # beyond the crop: no colour, all of the frame
_STRIP_PX = 1 << 17  # blended at a time, so that every step finds the last one's pixels in the cache


@dataclass(frozen=True, slots=True, eq=False)
class NeuralPatch:
    """A swapped face that knows its place."""

    frame: Frame  # (H, W, 3) it was made for; not to be modified
    points: Float  # (5, 2) px, its keypoints in that frame
    pixels: Frame  # (S, S, 3) BGR, aligned
    to_crop: Affine  # (2, 3) frame px to px of `pixels`
    memory: TrackMemory
    paster: "Paster"
    keep_mouth: bool = False
    tuning: FaceTuning = field(default_factory=FaceTuning)  # what was in force when the swap was asked for

    def paste(self, frame: Frame, covered: Sequence[Box] = ()) -> None:
        """Blend into `frame` (H, W, 3), which is modified, except for the boxes `covered`.

        The crop is a square around the face, with whoever stands beside it.
        """
        self.paster.paste(frame, self.pixels, self.to_crop, covered, keep_mouth=self.keep_mouth)

    def drawn(self, to_crop: Affine, side: int) -> Frame:
        """Return a (side, side, 3) crop of the frame with this face in it, for an enhancer with its own alignment."""
        canvas = align.warp(self.frame, to_crop, side)
        self.paster.paste(
            canvas, self.pixels, align.after(self.to_crop, align.inverse(to_crop)), keep_mouth=self.keep_mouth
        )
        return canvas

    def replaced(self, pixels: Frame, to_crop: Affine) -> "NeuralPatch":
        """Return a patch of the same face with other `pixels` (S, S, 3), aligned by `to_crop`.

        Nothing is left open in it: what an enhancer was given has the performer's mouth already, if it was kept.
        """
        return replace(self, pixels=pixels, to_crop=to_crop, keep_mouth=False)


class Paster:
    """Blends crops into frames, in buffers that it keeps: fresh ones would cost more in page faults than the work.

    Not thread-safe.
    """

    def __init__(self) -> None:
        """Start without buffers; they grow to the largest face seen."""
        self._room = np.empty(0, np.uint8)

    def paste(
        self,
        frame: Frame,
        pixels: Frame,
        to_crop: Affine,
        spared: Sequence[Box] = (),
        *,
        keep_mouth: bool = False,
    ) -> None:
        """Blend `pixels` (S, S, 3) into `frame` (modified), from where `to_crop` (frame px to crop px) took them.

        The boxes `spared` stay as they are in the frame.
        """
        side = pixels.shape[0]
        to_frame = align.inverse(to_crop)
        height, width = frame.shape[:2]
        corners = _outline(to_frame, side, 1.0)
        low, high = corners.min(axis=0), corners.max(axis=0)
        left, top = max(int(np.ceil(low[0])), 0), max(int(np.ceil(low[1])), 0)
        right, bottom = min(int(high[0]) + 1, width), min(int(high[1]) + 1, height)
        if right - left < 2 or bottom - top < 2:
            return
        visible = _outline(to_frame, side, VISIBLE)
        extent = np.floor(np.minimum(visible.max(axis=0), (width - 1, height - 1)))
        extent -= np.ceil(np.maximum(visible.min(axis=0), 0))
        size = int(np.sqrt(max(float(extent.prod()), 0.0)))
        degrees = float(np.degrees(np.arctan2(to_frame[1, 0], to_frame[0, 0])))
        mask = mask_for(side, align.scale(to_frame), degrees, size, mouth=keep_mouth)

        # OpenCV warps four channels in half the time of three, so what is to be kept of the frame travels along for
        # nothing. The pixels go premultiplied: one multiplication less at the frame's size.
        layer = u8(cv2.multiply(cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA), mask, scale=1 / 255))
        rows = max(_STRIP_PX // (right - left), 16)
        for first in range(top, bottom, rows):
            last = min(first + rows, bottom)
            span = _columns_between(corners, first, last)
            begin, end = max(left, span[0]), min(right, span[1])
            if begin < end:
                holes = [(box - np.tile([begin, first], 2)) for box in spared]
                self._blend(frame[first:last, begin:end], layer, _moved(to_frame, begin, first), holes)

    def _blend(self, part: Frame, layer: Frame, to_part: Affine, holes: Sequence[NDArray[Any]]) -> None:
        """Blend `layer` (S, S, 4), warped by `to_part`, into `part` of a frame, except for the boxes `holes` in it."""
        size = (part.shape[1], part.shape[0])
        warped, worn, kept, grey = self._buffers(*part.shape[:2])
        cv2.warpAffine(layer, to_part, size, dst=warped, flags=cv2.INTER_LINEAR, borderValue=_NOTHING)
        for left, top, right, bottom in holes:
            rows = slice(max(int(np.floor(top)), 0), max(int(np.ceil(bottom)), 0))
            warped[rows, max(int(np.floor(left)), 0) : max(int(np.ceil(right)), 0)] = _NOTHING
        cv2.cvtColor(warped, cv2.COLOR_BGRA2BGR, dst=worn)
        cv2.cvtColor(cv2.extractChannel(warped, 3, dst=grey), cv2.COLOR_GRAY2BGR, dst=kept)
        cv2.multiply(part, kept, dst=kept, scale=1 / 255)
        cv2.add(worn, kept, dst=part)

    def _buffers(self, rows: int, columns: int) -> tuple[Frame, Frame, Frame, Mask]:
        """Return arrays of 4, 3, 3 and 1 channels."""
        px = rows * columns
        if self._room.size < 11 * px:
            self._room = np.empty(11 * px, np.uint8)
        room = self._room
        return (
            room[: 4 * px].reshape(rows, columns, 4),
            room[4 * px : 7 * px].reshape(rows, columns, 3),
            room[7 * px : 10 * px].reshape(rows, columns, 3),
            room[10 * px : 11 * px].reshape(rows, columns),
        )


def _outline(to_frame: Affine, side: int, beyond: float) -> NDArray[np.float64]:
    """Return (4, 2) frame px of the corners of a `side` px crop, `beyond` px outside its outermost px's centres."""
    low, high = -beyond, side - 1 + beyond
    return np.array([[low, low], [high, low], [high, high], [low, high]]) @ to_frame[:, :2].T + to_frame[:, 2]


def _columns_between(corners: NDArray[np.float64], first: int, last: int) -> tuple[int, int]:
    """Return [begin, end) of the columns that the quadrilateral `corners` (4, 2) takes in rows [first, last)."""
    found: list[float] = []
    points = corners.tolist()  # NumPy's own numbers are ten times slower one by one
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        low, high = max(min(y0, y1), first - 1), min(max(y0, y1), last)
        if low <= high:
            slope = (x1 - x0) / (y1 - y0) if y1 != y0 else 0.0
            found += [x0 + (low - y0) * slope, x0 + (high - y0) * slope] if y1 != y0 else [x0, x1]
    return (int(min(found)), int(np.ceil(max(found))) + 1) if found else (0, 0)


def _moved(affine: Affine, left: int, top: int) -> Affine:
    return np.asarray(affine - np.array([[0, 0, left], [0, 0, top]]), np.float64)
