"""The embedded enhancer: give the worn face the sharpness of the picture around it.

Webcams are softer than portraits. Sharpness is the mean absolute Laplacian over the face; every tenth frame the blur
that brings the worn face's down to the frame's is searched for, and approached gradually.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.video.engine import Frame
from workers.video.patches import MeshPatch
from workers.video.pixels import u8

_EVERY = 10
_OFFSET = 2  # of the frame that is measured: the detector looks at every fifth, and one frame must not bear both
_SIGMAS = (0.0, 0.5, 0.7, 0.9, 1.2, 1.6, 2.0)  # px
_TOLERANCE = 1.15  # slightly too sharp looks better than slightly too soft
_LEAST_SIGMA = 0.4  # below, a blur changes nothing that 8 bits show


class Softness:
    """The blur of one track's worn face, and when it was last measured."""

    def __init__(self) -> None:
        """Start without a past."""
        self.sigma: float | None = None
        self.frames = 0


class DetailMatcher:
    """An enhancer of mesh patches."""

    def enhance(self, patches: Sequence[MeshPatch]) -> list[MeshPatch]:
        """Return `patches` with their sharpness matched."""
        for patch in patches:
            softness = patch.memory.recall(Softness)
            if softness.sigma is None or softness.frames % _EVERY == _OFFSET:
                found = matching_sigma(patch.pixels, patch.target, patch.mask.alpha > 180)
                softness.sigma = found if softness.sigma is None else (softness.sigma + found) / 2
            softness.frames += 1
            if softness.sigma is not None and softness.sigma > _LEAST_SIGMA:
                patch.pixels = _blur(patch.pixels, softness.sigma)
        return list(patches)


def matching_sigma(pixels: Frame, target: Frame, where: NDArray[np.bool_]) -> float:
    """Return the Gaussian sigma, px, that makes `pixels` as sharp as `target` (both (H, W, 3)) in `where` (H, W)."""
    if not where.any():
        return 0.0
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    limit = _TOLERANCE * _sharpness(cv2.cvtColor(target, cv2.COLOR_BGR2GRAY), where)
    for sigma in _SIGMAS:
        blurred = grey if sigma == 0 else cv2.GaussianBlur(grey, (0, 0), sigma)
        if _sharpness(blurred, where) <= limit:
            return sigma
    return _SIGMAS[-1]


def _sharpness(grey: "cv2.typing.MatLike", where: NDArray[np.bool_]) -> float:
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_16S, ksize=3)[where]).mean())


def _blur(pixels: Frame, sigma: float) -> Frame:
    side = 3 if sigma < 0.85 else 5 if sigma < 1.3 else 7  # the kernel OpenCV would choose is twice as wide and slow
    return u8(cv2.GaussianBlur(pixels, (side, side), sigma))
