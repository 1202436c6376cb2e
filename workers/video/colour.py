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
_LIP_MEMORY = 0.8
_LIP_COLOUR, _LIP_LIGHT = 1.0, 0.4  # of the way to the performer's lips, whose light includes a closed mouth's shadow
_BGR_TO_LUMA = np.array([0.114, 0.587, 0.299], np.float32)
_FEWEST_LIP_CELLS = 8
_CLOSE, _LOOSE = 0.22, 0.5  # kernel sides of the smooth difference, in face sizes


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


class LipTone:
    """The running difference between the performer's lips and the worn ones, of one track."""

    def __init__(self) -> None:
        """Start without a past."""
        self._shift: Float | None = None  # (3,) levels

    def step(self, shift: Float) -> Float:
        """Return the smoothed shift after another frame's."""
        self._shift = shift if self._shift is None else f32(_LIP_MEMORY * self._shift + (1 - _LIP_MEMORY) * shift)
        return self._shift


def lip_shift(missing: Float, mask: FaceMask, memory: TrackMemory) -> Float:
    """Return (rows, columns, 3) what takes the worn lips to the performer's tone; `missing` is what lips still lack.

    Lips lit as skin is lit look bloodless: the light moves the portrait's lips, but the contrast to the skin is lost.
    """
    weight = mask.lip_cells * np.float32(1 / 255)  # (rows, columns)
    total = float(weight.sum())
    if total < _FEWEST_LIP_CELLS:
        return np.zeros_like(missing)
    shift = memory.recall(LipTone).step(f32(np.tensordot(weight, missing, axes=2) / total))
    light = float(shift @ _BGR_TO_LUMA)
    shift = f32(_LIP_COLOUR * (shift - light) + _LIP_LIGHT * light)
    return f32(cv2.blur(weight, (3, 3))[..., None] * shift)


def match_colour(pixels: Frame, target: Frame, mask: FaceMask, roi: Roi, memory: TrackMemory) -> Frame:
    """Return `pixels` (H, W, 3) in the light of `target` (H, W, 3), the frame's part they will be pasted onto."""
    wanted = u8(cv2.resize(target, roi.cells, interpolation=cv2.INTER_AREA))  # (rows, columns, 3)
    worn = u8(cv2.resize(pixels, roi.cells, interpolation=cv2.INTER_AREA))
    sample = _sample(mask)
    if sample is None:
        return pixels
    gain = memory.recall(Contrast).step(_contrast(wanted, worn, sample))
    difference = f32(cv2.addWeighted(wanted, 1.0, worn, -gain, 0.0, dtype=cv2.CV_32F))
    field = _smooth_difference(difference, mask, roi)
    field += lip_shift(difference - field, mask, memory)

    # gain · pixels + field, in one 8-bit pass: the field's mean goes into the scalar, its variation into bytes.
    mean = float(np.mean(cv2.mean(field, sample)[:3]))
    variation = cv2.addWeighted(field, 1.0, field, 0.0, 128 - mean, dtype=cv2.CV_8U)
    spread_out = cv2.resize(variation, (roi.width, roi.height), interpolation=cv2.INTER_LINEAR)
    return u8(cv2.addWeighted(pixels, gain, spread_out, 1.0, mean - 128))


def _contrast(wanted: Frame, worn: Frame, sample: Mask) -> float:
    """Return the contrast that the skin in `worn` (rows, columns, 3) would have in the light of `wanted`, the same.

    Features are differences in how skin reflects: in half the light they differ half as much.
    """
    (light, spread), (worn_light, worn_spread) = (
        [float(value.item()) for value in cv2.meanStdDev(cv2.cvtColor(cells, cv2.COLOR_BGR2GRAY), mask=sample)]
        for cells in (wanted, worn)
    )
    return min((light + 1) / (worn_light + 1), _LIVELIER * (spread + 1) / (worn_spread + 1))


def _sample(mask: FaceMask) -> Mask | None:
    """Return 1 in the cells that are surely skin of the worn face, more leniently if they are few; None without any."""
    for cells, least in ((mask.skin_cells, 180), (mask.cells, 1)):
        sample = (cells > least).view(np.uint8)
        if cv2.countNonZero(sample) >= 20:
            return sample
    return None


def _smooth_difference(difference: Float, mask: FaceMask, roi: Roi) -> Float:
    """Return the slowly varying part of `difference` (rows, columns, 3), close at the rim and loose inside."""
    weight = mask.skin_cells[..., None] * np.float32(1 / 255) + np.float32(1e-4)
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
    covered = cv2.blur(cells, (side, side), borderType=cv2.BORDER_REPLICATE)
    return f32(np.maximum(covered * np.float32(2 / 255) - 1, 0))
