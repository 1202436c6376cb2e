"""Lighting the worn face like the frame: contrast from statistics, the rest from the smooth part of the difference.

What differs slowly across the face (light, white balance, skin tone) is the frame's; what differs quickly (features,
creases, texture) is the worn face's. Near the rim the correction follows closely, so that no seam shows; inside it
follows loosely, so that the worn face keeps its own modelling. Eyes and lips are left out of the statistics: they are
covered by other things (gaze, teeth, lipstick) than skin.
"""

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.faces import TrackMemory
from workers.video.mask import FaceMask
from workers.video.pixels import Float, Mask, f32, u8
from workers.video.roi import Roi

_CONTRAST_RANGE = (0.55, 1.25)  # a flash-lit portrait flattens; a dull one is not blown up into noise
_LIVELIER = 1.4  # features may stand out this much more than the frame's own contrast, which noise or fog may flatten
_CONTRAST_MEMORY = 0.9  # share of the past in each frame's contrast
_CLOSE, _LOOSE = 0.22, 0.5  # kernel sides of the smooth difference, in face sizes
_BGR_TO_LUMA = np.array([0.114, 0.587, 0.299], np.float32)


class Contrast:
    """The running ratio of the frame's to the worn face's contrast, of one track."""

    def __init__(self) -> None:
        """Start without a past."""
        self._ratio: float | None = None

    def step(self, ratio: float) -> float:
        """Return the smoothed, limited ratio after another frame's."""
        ratio = float(np.clip(ratio, *_CONTRAST_RANGE))
        self._ratio = ratio if self._ratio is None else _CONTRAST_MEMORY * self._ratio + (1 - _CONTRAST_MEMORY) * ratio
        return self._ratio


def match_colour(pixels: Frame, target: Frame, mask: FaceMask, roi: Roi, memory: TrackMemory) -> Frame:
    """Return `pixels` (H, W, 3) in the light of `target` (H, W, 3), the frame's part they will be pasted onto."""
    wanted = cv2.resize(target, roi.cells, interpolation=cv2.INTER_AREA).astype(np.float32)  # (rows, columns, 3)
    worn = cv2.resize(pixels, roi.cells, interpolation=cv2.INTER_AREA).astype(np.float32)
    sample = _sample(mask)
    if sample is None:
        return pixels
    gain = memory.recall(Contrast).step(_contrast(wanted[sample] @ _BGR_TO_LUMA, worn[sample] @ _BGR_TO_LUMA))
    field = _smooth_difference(wanted - np.float32(gain) * worn, mask, roi)

    # gain · pixels + field, in one 8-bit pass: the field's mean goes into the scalar, its variation into bytes.
    mean = float(field[sample].mean())
    variation = np.clip(np.rint(field - np.float32(mean - 128)), 0, 255).astype(np.uint8)
    spread_out = cv2.resize(variation, (roi.width, roi.height), interpolation=cv2.INTER_LINEAR)
    return u8(cv2.addWeighted(pixels, gain, spread_out, 1.0, mean - 128))


def _contrast(wanted: Float, worn: Float) -> float:
    """Return the contrast that the worn face's skin (N,) grey would have in the light of the wanted (N,).

    Features are differences in how skin reflects: in half the light they differ half as much.
    """
    light = (wanted.mean() + 1) / (worn.mean() + 1)
    flatness = (wanted.std() + 1) / (worn.std() + 1)
    return float(min(light, _LIVELIER * flatness))


def _sample(mask: FaceMask) -> "np.typing.NDArray[np.bool_] | None":
    """Return the cells that are surely skin of the worn face, more leniently if they are few; None without any."""
    for cells, least in ((mask.skin_cells, 180), (mask.cells, 1)):
        sample = cells > least
        if np.count_nonzero(sample) >= 20:
            return np.asarray(sample)
    return None


def _smooth_difference(difference: Float, mask: FaceMask, roi: Roi) -> Float:
    """Return the slowly varying part of `difference` (rows, columns, 3), close at the rim and loose inside."""
    weight = mask.skin_cells.astype(np.float32)[..., None] / 255 + np.float32(1e-4)
    weighted = np.concatenate([difference * weight, weight], axis=2)  # (rows, columns, 4)
    close, loose = (_mean_of_known(weighted, roi.face_px / roi.cell * share) for share in (_CLOSE, _LOOSE))
    inside = _depth(mask.cells, roi)[..., None]
    return close + inside * (loose - close)


def _mean_of_known(weighted: Float, kernel: float) -> Float:
    side = int(kernel) | 1
    blurred = cv2.blur(cv2.blur(weighted, (side, side)), (side, side))
    return f32(blurred[..., :3] / blurred[..., 3:])


def _depth(cells: Mask, roi: Roi) -> Float:
    """Return (rows, columns) 0 at the rim, 1 well inside."""
    side = int(roi.face_px / roi.cell * _CLOSE) | 1
    covered = cv2.blur(cells, (side, side), borderType=cv2.BORDER_REPLICATE).astype(np.float32) / 255
    return f32(np.clip(2 * covered - 1, 0, 1))
