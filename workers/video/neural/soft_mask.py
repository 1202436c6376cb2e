"""How opaque a swapped crop is: zero at its border, a soft rim, full inside. Cached, because it depends on little.

The reference (insightface's paste-back) makes the mask anew for every face, over the whole frame: the crop's outline
is eroded by a k x k box, k = max(size / 10, 10), and blurred by a Gaussian of 2 max(size / 20, 5) + 1 px, where `size`
is the geometric mean of the outline's extents in the frame. Eroding a square by a box moves its four sides inwards,
however it is turned, by what the box reaches along each side's normal; and a Gaussian is separable in every direction.
So the same mask is the outer product of two profiles in the crop's own axes, warped along with the crop.

One thing differs: ten px of erosion on a side eat a crop of twenty, and the face in it would be shown bare. So below 60
px a crop loses a sixth of its side, as one of 60 px does.
"""

from functools import lru_cache

import cv2
import numpy as np

from workers.video.pixels import Float, Mask, f32, u8

_SIZE_STEP = 1.01  # masks of sizes closer than this are one
_ANGLE_STEP = 2.0  # degrees
VISIBLE = 1 - 20 / 255  # px of the crop: how far its outline reaches beyond the last px's centre, in the reference
_LEAST_BOX, _LEAST_BOX_SHARE = 10, 6  # px, and how many times it goes into the crop's side at least
_MOUTH_CENTRE, _MOUTH_RADII = (0.501, 0.735), (0.185, 0.11)  # of the crop's side


def mask_for(side: int, px: float, degrees: float, size: int, *, mouth: bool) -> Mask:
    """Return the (side, side, 4) mask of a crop whose px is `px` frame px large, turned by `degrees` in the frame.

    Three channels, for its colours, are how much of the crop shows, 0..255; the fourth how much of the frame. `size` is
    the extent of its outline in the frame, px. `mouth` leaves the performer's own mouth open. Not to be modified: faces
    of the same size class share it.
    """
    px_class = round(float(np.log(max(px, 1e-3)) / np.log(_SIZE_STEP)))
    least = max(min(_LEAST_BOX, int(side * px / _LEAST_BOX_SHARE)), 1)
    box, blur = max(size // 10, least), max(size // 20, (least + 1) // 2)
    return _mask(side, px_class, box, blur, round(degrees / _ANGLE_STEP), mouth)


def with_opening(mask: Mask, opened: Mask) -> Mask:
    """Return a mask like `mask` (side, side, 4) that shows the frame by as much more as `opened` (side, side) says."""
    shown = u8(cv2.multiply(mask[..., 0], 255 - opened, scale=1 / 255))
    return u8(cv2.merge([shown, shown, shown, 255 - shown]))


@lru_cache(maxsize=128)
def _mask(side: int, px_class: int, box: int, blur: int, angle_class: int, mouth: bool) -> Mask:  # noqa: FBT001 - a key
    px, angle = float(_SIZE_STEP**px_class), float(np.deg2rad(angle_class * _ANGLE_STEP))
    across, down = f32([np.cos(angle), np.sin(angle)]), f32([-np.sin(angle), np.cos(angle)])
    columns, rows = (_profile(side, px, _reach(axis, box), _reach(-axis, box), blur) for axis in (across, down))
    mask = f32(np.outer(rows, columns))
    if mouth:
        mask *= 1 - _mouth(side)
    shown = np.rint(mask * 255).astype(np.uint8)
    made = np.dstack([shown, shown, shown, 255 - shown])
    made.flags.writeable = False
    return made


def _reach(inwards: Float, box: int) -> float:
    """Return how far eroding by a `box` px square moves a side with this normal (2,), px."""
    before, beyond = box // 2, box - 1 - box // 2  # OpenCV's anchor of an even kernel is right of its middle
    return float(sum(value * before if value > 0 else -value * beyond for value in inwards))


def _profile(side: int, px: float, low: float, high: float, blur: int) -> Float:
    """Return (side,) 0..1: a step moved inwards by `low` and `high` frame px at its ends, and blurred."""
    kernel = cv2.getGaussianKernel(2 * blur + 1, 0).ravel()
    edge = np.concatenate([[0.0], np.cumsum(kernel)])  # the blurred step, half a px beyond each tap
    at = np.arange(-blur - 0.5, blur + 1.0)
    place = np.arange(side)
    from_low = (place + VISIBLE) * px - low
    from_high = (side - 1 + VISIBLE - place) * px - high
    return f32(np.interp(from_low, at, edge) * np.interp(from_high, at, edge))


def _mouth(side: int) -> Float:
    """Return (side, side) 0..1: the place of the mouth in an aligned crop."""
    canvas = np.zeros((side, side), np.float32)
    centre = (round(_MOUTH_CENTRE[0] * side), round(_MOUTH_CENTRE[1] * side))
    axes = (round(_MOUTH_RADII[0] * side), round(_MOUTH_RADII[1] * side))
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, 1.0, -1)
    return f32(cv2.GaussianBlur(canvas, (0, 0), side * 0.03))
