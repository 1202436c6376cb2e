"""A swapped crop on its way back into the frame. Only the part of the frame that it covers is touched, in 8 bits."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import atan2, ceil, degrees, floor, isqrt
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.video.engine import FaceTuning, Frame
from workers.video.faces import Box, TrackMemory
from workers.video.neural import align
from workers.video.neural.soft_mask import VISIBLE, mask_for, with_opening
from workers.video.pixels import Affine, Float, Mask, u8

_NOTHING = (0, 0, 0, 255)  # beyond the crop: no colour, all of the frame
_RIM_SHARE = 8  # of the crop's side: enough for heads turned by up to 15 degrees, and for the rest it is only slower
_VECTOR_PX = 16
_Point = tuple[float, float]  # x, y, px
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
    opened: Mask | None = None  # (S, S) 0..255: how much of the frame stays, because something lies before the face

    def paste(self, frame: Frame, covered: Sequence[Box] = ()) -> None:
        """Blend into `frame` (H, W, 3), which is modified, except for the boxes `covered`.

        The crop is a square around the face, with whoever stands beside it.
        """
        self.paster.paste(frame, self.pixels, self.to_crop, covered, keep_mouth=self.keep_mouth, opened=self.opened)

    def drawn(self, to_crop: Affine, side: int) -> Frame:
        """Return a (side, side, 3) crop of the frame with this face in it, for an enhancer with its own alignment."""
        canvas = align.warp(self.frame, to_crop, side)
        self.paster.paste(
            canvas,
            self.pixels,
            align.after(self.to_crop, align.inverse(to_crop)),
            keep_mouth=self.keep_mouth,
            opened=self.opened,
        )
        return canvas

    def replaced(self, pixels: Frame, to_crop: Affine) -> "NeuralPatch":
        """Return a patch of the same face with other `pixels` (S, S, 3), aligned by `to_crop`.

        The mouth is not left open in it: what an enhancer was given has the performer's already, if it was kept. What
        lies before the face stays the frame's: enhancers take it for a face.
        """
        opened = self.opened
        if opened is not None:
            there = align.after(to_crop, align.inverse(self.to_crop))
            opened = u8(cv2.warpAffine(opened, there, (pixels.shape[1], pixels.shape[0]), flags=cv2.INTER_LINEAR))
        return replace(self, pixels=pixels, to_crop=to_crop, keep_mouth=False, opened=opened)


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
        opened: Mask | None = None,
    ) -> None:
        """Blend `pixels` (S, S, 3) into `frame` (modified), from where `to_crop` (frame px to crop px) took them.

        The boxes `spared` stay as they are in the frame, and so does, by its levels, what `opened` (S, S) marks.
        """
        side = pixels.shape[0]
        to_frame = align.inverse(to_crop)
        height, width = frame.shape[:2]
        corners = _outline(to_frame, side, 1.0)
        low_x, low_y, high_x, high_y = _extent(corners)
        left, top = max(ceil(low_x), 0), max(ceil(low_y), 0)
        right, bottom = min(int(high_x) + 1, width), min(int(high_y) + 1, height)
        if right <= left or bottom <= top:
            return
        low_x, low_y, high_x, high_y = _extent(_outline(to_frame, side, VISIBLE))
        across = floor(min(high_x, width - 1)) - ceil(max(low_x, 0))
        down = floor(min(high_y, height - 1)) - ceil(max(low_y, 0))
        turn = degrees(atan2(to_frame[1, 0], to_frame[0, 0]))
        size = isqrt(max(across, 0) * max(down, 0))
        mask = mask_for(side, align.scale(to_frame), turn, size, mouth=keep_mouth)
        if opened is not None:
            mask = with_opening(mask, opened)

        # OpenCV warps four channels in half the time of three, so what is to be kept of the frame travels along for
        # nothing. The pixels go premultiplied: one multiplication less at the frame's size.
        layer = u8(cv2.multiply(cv2.cvtColor(pixels, cv2.COLOR_BGR2BGRA), mask, scale=1 / 255))
        # Where the warp's source ends, and for what is left of a row beyond whole vectors, OpenCV goes px by px: a rim
        # around the source and whole vectors take a fifth off its time.
        rim = side // _RIM_SHARE
        layer = u8(cv2.copyMakeBorder(layer, rim, rim, rim, rim, cv2.BORDER_CONSTANT, value=_NOTHING))
        to_frame = align.after(to_frame, _moved(np.eye(2, 3), rim, rim))
        rows = max(_STRIP_PX // (right - left), 16)
        for first in range(top, bottom, rows):
            last = min(first + rows, bottom)
            span = _columns_between(corners, first, last)
            begin, end = max(left, span[0]), min(right, span[1])
            if begin < end:
                columns = min(ceil((end - begin) / _VECTOR_PX) * _VECTOR_PX, width)
                begin = min(begin, width - columns)
                end = begin + columns
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


def _outline(to_frame: Affine, side: int, beyond: float) -> list[_Point]:
    """Return the corners of a `side` px crop in the frame, `beyond` px outside its outermost px's centres, in turn."""
    (xx, xy, x0), (yx, yy, y0) = to_frame.tolist()  # NumPy's own numbers are ten times slower one by one
    low, high = -beyond, side - 1 + beyond
    corners = ((low, low), (high, low), (high, high), (low, high))
    return [(xx * x + xy * y + x0, yx * x + yy * y + y0) for x, y in corners]


def _extent(points: Sequence[_Point]) -> tuple[float, float, float, float]:
    """Return least x, least y, largest x, largest y."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _columns_between(corners: Sequence[_Point], first: int, last: int) -> tuple[int, int]:
    """Return [begin, end) of the columns that the quadrilateral `corners` takes in rows [first, last)."""
    found: list[float] = []
    for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        low, high = max(min(y0, y1), first - 1), min(max(y0, y1), last)
        if low <= high:
            slope = (x1 - x0) / (y1 - y0) if y1 != y0 else 0.0
            found += [x0 + (low - y0) * slope, x0 + (high - y0) * slope] if y1 != y0 else [x0, x1]
    return (int(min(found)), ceil(max(found)) + 1) if found else (0, 0)


def _moved(affine: Affine, left: int, top: int) -> Affine:
    return np.asarray(affine - np.array([[0, 0, left], [0, 0, top]]), np.float64)
