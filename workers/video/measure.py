"""Two measures of a swap, shared by the demo, the benches and the tests; neither needs model weights.

`leak_ssim` says how much of the performer's own face still shows; a frame leaks when it exceeds `LEAK_SSIM`.
`texture_identity` says whose face it is: the face is unwrapped onto the canonical mesh, where every face has the same
shape, and its texture is correlated with the portrait's.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.video.engine import Frame
from workers.video.faces import bounds
from workers.video.pixels import Float, remap
from workers.video.raster import OUTSIDE, inverse_map
from workers.video.topology import INNER_LIPS, LEFT_EYE, MESH_VERTICES, OVAL, RIGHT_EYE, Index, canonical

LEAK_SSIM = 0.95
UV_SIDE = 128

_SSIM_SIGMA = 1.5
_SSIM_WINDOW = (11, 11)
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_LIGHT_SIGMA = 0.1  # of the UV side; slower changes over the face are light, which a swap takes from the frame
_CORE_CENTRE, _CORE_RADII = (0.5, 0.53), (0.33, 0.33)
"""The ellipse in UV, of its side, that tells people apart: brows, nose, cheeks, mouth, chin. Beyond it the mesh leans
away from the viewer, and hair, ears and background, smeared over many texels, would outweigh the face."""


def leak_ssim(input_bgr: Frame, output_bgr: Frame, landmarks: Float) -> float:
    """Return the mean SSIM of output to input (both (H, W, 3)) in the face hull of `landmarks` (478, 2 or more) px.

    Eyes and inner mouth are left out: they stay the performer's. SSIM after Wang, Bovik, Sheikh and Simoncelli, "Image
    Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 13(4), 2004: grey, Gaussian 11x11
    window of sigma 1.5. Where the hull lies outside the picture the result is 0: nothing to leak.
    """
    height, width = input_bgr.shape[:2]
    x0, y0, x1, y1 = bounds(landmarks)
    left, top = max(int(x0) - 8, 0), max(int(y0) - 8, 0)
    right, bottom = min(int(x1) + 9, width), min(int(y1) + 9, height)
    if right - left < 1 or bottom - top < 1:
        return 0.0
    where = _hull((bottom - top, right - left), landmarks[:, :2] - np.array([left, top], np.float32))
    if not where.any():
        return 0.0
    before, after = (
        cv2.cvtColor(picture[top:bottom, left:right], cv2.COLOR_BGR2GRAY).astype(np.float64)
        for picture in (input_bgr, output_bgr)
    )
    return float(ssim_map(before, after)[where].mean())


def ssim_map(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the local SSIM of two grey pictures (H, W) in 0..255."""

    def mean(picture: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(picture, _SSIM_WINDOW, _SSIM_SIGMA), np.float64)

    mean1, mean2 = mean(first), mean(second)
    variance1, variance2 = mean(first * first) - mean1**2, mean(second * second) - mean2**2
    covariance = mean(first * second) - mean1 * mean2
    luminance = (2 * mean1 * mean2 + _C1) / (mean1**2 + mean2**2 + _C1)
    return luminance * (2 * covariance + _C2) / (variance1 + variance2 + _C2)


def _hull(shape: tuple[int, int], points: Float) -> NDArray[np.bool_]:
    """Return (H, W) True in the convex hull of the face oval, without eyes and inner mouth."""
    canvas = np.zeros(shape, np.uint8)
    cv2.fillConvexPoly(canvas, cv2.convexHull(np.round(points[OVAL]).astype(np.int32)), 1)
    for opening in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
        cv2.fillPoly(canvas, [np.round(points[opening]).astype(np.int32)], 0)
    return np.asarray(canvas > 0)


def unwrap(frame: Frame, landmarks: Float, side: int = UV_SIDE) -> tuple[Frame, NDArray[np.bool_]]:
    """Return the face of `landmarks` (468 or more, 2 or more) px in UV space, and where it is skin.

    The first value is (side, side, 3) BGR; the second, (side, side), is False outside the mesh, in the eyes, in the
    inner mouth, and out of the picture.
    """
    uv = (canonical().uv * (side - 1)).astype(np.float32)
    points = np.ascontiguousarray(landmarks[:MESH_VERTICES, :2], np.float32)
    where = inverse_map(uv, points, _uv_triangles(), side, side)
    inside = (where[..., 0] > OUTSIDE) & (where[..., 0] <= frame.shape[1] - 1)
    inside &= (where[..., 1] > OUTSIDE) & (where[..., 1] <= frame.shape[0] - 1)
    openings = np.zeros((side, side), np.uint8)
    for opening in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
        cv2.fillPoly(openings, [np.round(uv[opening]).astype(np.int32)], 1)
    openings = cv2.dilate(openings, np.ones((3, 3), np.uint8)).astype(np.uint8)
    texture = remap(frame, where)
    return texture, np.asarray(inside & (openings == 0))


def _uv_triangles() -> Index:
    """Return the canonical triangles in the winding that `inverse_map` draws in UV space."""
    mesh = canonical()
    corners = mesh.uv[mesh.triangles]
    edge1, edge2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = edge1[:, 0] * edge2[:, 1] - edge1[:, 1] * edge2[:, 0]
    return mesh.triangles[:, ::-1] if np.median(area) > 0 else mesh.triangles


def texture_identity(frame: Frame, landmarks: Float, reference_uv: tuple[Frame, NDArray[np.bool_]]) -> float:
    """Return how alike, in -1..1, the face in `frame` and an unwrapped reference are: 1 is the same picture of it.

    `reference_uv` is what `unwrap` made of the portrait, or of the performer's own frame. Grey textures, without the
    slow changes that are light, are correlated where both are skin.
    """
    reference, known = reference_uv
    texture, seen = unwrap(frame, landmarks, reference.shape[0])
    both = known & seen & _core(reference.shape[0])
    if np.count_nonzero(both) < 100:
        return 0.0
    one, other = _features(texture, seen)[both], _features(reference, known)[both]
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return float((one * other).sum()) / norm if norm > 1e-6 else 0.0


def _core(side: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[0:side, 0:side] / (side - 1)
    across = (columns - _CORE_CENTRE[0]) / _CORE_RADII[0]
    down = (rows - _CORE_CENTRE[1]) / _CORE_RADII[1]
    return np.asarray(across**2 + down**2 < 1)


def _features(texture: Frame, known: NDArray[np.bool_]) -> Float:
    """Return (S, S) grey `texture` less its local mean over `known` texels."""
    grey = cv2.cvtColor(texture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    weight = known.astype(np.float32)
    sigma = _LIGHT_SIGMA * texture.shape[0]
    around = cv2.GaussianBlur(weight, (0, 0), sigma) + np.float32(1e-4)
    light = cv2.GaussianBlur(grey * weight, (0, 0), sigma) / around
    return np.asarray((grey - light) * weight, np.float32)
