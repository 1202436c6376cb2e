"""Five-point alignment: the similarity that takes a face's keypoints to where a network was trained to see them.

The least-squares similarity (Umeyama, "Least-squares estimation of transformation parameters between two point
patterns", IEEE PAMI 13(4), 1991) has a closed form in the plane: with both point sets centred, as complex numbers p and
q, rotation and scale together are sum(conj(p) q) / sum(|p|²). It needs no SVD and cannot mirror.
"""

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.pixels import Affine, Float, f32, u8

_ARCFACE = f32([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
_ARCFACE_SIDE, _SWAP_SIDE, _SWAP_OFFSET = 112, 128, 8
_FFHQ = f32(
    [
        [192.98138, 239.94708],
        [318.90277, 240.1936],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
FFHQ_SIDE = 512
_LEAST_SPREAD = 1e-3  # px²: below, the points are one point and have no direction


def template(side: int) -> Float:
    """Return the (5, 2) px where ArcFace (multiples of 112) or InSwapper (multiples of 128) wants the keypoints.

    Right eye, left eye, nose, right and left corner of the mouth, the person's own, as in `Detection.keypoints`. The
    128 px crop is the 112 px crop at the same scale, with 8 px more on either side and 16 px more below.
    """
    if side % _ARCFACE_SIDE == 0:
        return f32(_ARCFACE * (side / _ARCFACE_SIDE))
    if side % _SWAP_SIDE == 0:
        return f32((_ARCFACE + f32([_SWAP_OFFSET, 0])) * (side / _SWAP_SIDE))
    raise ValueError(f"a crop of {side} px: multiples of {_ARCFACE_SIDE} or {_SWAP_SIDE} are known")


def ffhq_template() -> Float:
    """Return the (5, 2) px where face restorers trained on FFHQ want the keypoints in a 512 px crop."""
    return _FFHQ.copy()


def similarity(points: Float, target: Float) -> Affine | None:
    """Return the (2, 3) affine that takes `points` (N, 2) closest to `target` (N, 2); None where there is none."""
    source, wanted = points.astype(np.float64), target.astype(np.float64)
    middle, wanted_middle = source.mean(axis=0), wanted.mean(axis=0)
    p, q = source - middle, wanted - wanted_middle
    spread = float((p * p).sum())
    if not spread > _LEAST_SPREAD * len(p):  # NaN too
        return None
    along = float((p * q).sum()) / spread
    across = float((p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]).sum()) / spread
    turn = np.array([[along, -across], [across, along]])
    if not np.isfinite(turn).all() or along * along + across * across < 1e-12:
        return None
    return np.column_stack([turn, wanted_middle - turn @ middle])


def inverse(affine: Affine) -> Affine:
    """Return the (2, 3) similarity that undoes the similarity `affine`."""
    along, across = affine[0, 0], affine[1, 0]
    size = along * along + across * across
    turn = np.array([[along, across], [-across, along]]) / size
    return np.column_stack([turn, -turn @ affine[:, 2]])


def after(second: Affine, first: Affine) -> Affine:
    """Return the (2, 3) affine that does `first`, then `second`."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def scale(affine: Affine) -> float:
    """Return how many times larger things are after the similarity `affine`."""
    return float(np.hypot(affine[0, 0], affine[1, 0]))


def warp(frame: Frame, affine: Affine, side: int) -> Frame:
    """Return the (side, side, 3) crop that `affine` (frame px to crop px) describes, black beyond the frame's edge."""
    return u8(cv2.warpAffine(frame, affine, (side, side), flags=cv2.INTER_LINEAR, borderValue=0))
