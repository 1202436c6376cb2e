"""Lighting a swapped crop like the face it replaces: mean and spread of each colour, over the middle of the face.

After Reinhard et al., "Color Transfer between Images", IEEE CG&A 21(5), 2001, in BGR, where a channel is one table of
256 levels. The network takes the light of its target by itself; this is for what it leaves, and an option.
"""

from functools import lru_cache

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.pixels import Mask, u8

_CENTRE, _RADII = (0.5, 0.55), (0.28, 0.34)  # of the crop's side: cheeks to cheeks, brows to chin
_GAIN = (0.7, 1.4)  # a dark, flat target must not blow noise up


def in_the_light_of(target: Frame, pixels: Frame, strength: float) -> Frame:
    """Return `pixels` (S, S, 3) moved `strength` (0..1) of the way to the colours of `target` (S, S, 3)."""
    where = _middle(pixels.shape[0])
    wanted, wanted_spread = (values.ravel() for values in cv2.meanStdDev(target, mask=where))
    mean, spread = (values.ravel() for values in cv2.meanStdDev(pixels, mask=where))
    gain = 1 + strength * (np.clip((wanted_spread + 1) / (spread + 1), *_GAIN) - 1)
    shift = mean + strength * (wanted - mean) - gain * mean
    table = np.clip(np.rint(np.arange(256)[:, None] * gain + shift), 0, 255).astype(np.uint8)
    return u8(cv2.LUT(pixels, table[None]))


@lru_cache(maxsize=4)
def _middle(side: int) -> Mask:
    canvas = np.zeros((side, side), np.uint8)
    centre, axes = ((round(x * side), round(y * side)) for x, y in (_CENTRE, _RADII))
    cv2.ellipse(canvas, centre, axes, 0, 0, 360, 255, -1)
    return canvas
