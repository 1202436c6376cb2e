"""Who owns which part of a picture when faces stand close: a swapped crop is a square, with whoever stands beside it.

What a crop carries of a neighbour is the neighbour's own face, raw. So each face leaves to the other:

| the other is | left to it                                                                            |
|--------------|---------------------------------------------------------------------------------------|
| covered      | its box, and its surroundings as far as the cover reaches, outside the face's own box |
| swapped too  | the same, but only its half of where the two overlap                                  |

Where one face lies before the other, so that no line through the overlap parts them, the smaller has all of it.
"""

import numpy as np

from workers.video.cover import FACE_REACH
from workers.video.faces import Box
from workers.video.pixels import f32


def left_to_covered(own: Box, other: Box) -> list[Box]:
    """Return the boxes in which the face in `own` must not be pasted, because a covered face is in `other`."""
    return [other, *_outside(_grown(other), np.rint(own))]


def left_to_swapped(own: Box, other: Box) -> list[Box]:
    """Return the boxes in which the face in `own` must not be pasted, because another is pasted in `other`.

    Whole px: between two halves there must be no seam that neither pastes.
    """
    own, other = np.rint(own), np.rint(other)
    around = _theirs(_grown(own), _grown(other))
    return [*_theirs(own, other), *(part for box in around for part in _outside(box, own))]


def _grown(box: Box) -> Box:
    middle, reach = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * FACE_REACH
    return np.rint(f32([*(middle - reach), *(middle + reach)]))


def _theirs(own: Box, other: Box) -> list[Box]:
    """Return `other` without `own`, and its share of where they overlap."""
    parts = _outside(other, own)
    low, high = np.maximum(own[:2], other[:2]), np.minimum(own[2:], other[2:])
    if (high <= low).any():
        return parts
    shared, centres = f32([*low, *high]), ((own[:2] + own[2:]) / 2, (other[:2] + other[2:]) / 2)
    axis = int(np.argmax(np.abs(centres[1] - centres[0]) / (high - low)))
    cut, mine, theirs = np.rint((low + high) / 2)[axis], centres[0][axis], centres[1][axis]
    if mine < cut < theirs:
        shared[axis] = cut
    elif theirs < cut < mine:
        shared[axis + 2] = cut
    elif (_area(own), *own) <= (_area(other), *other):
        return parts
    return [*parts, shared]


def _area(box: Box) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _outside(box: Box, hole: Box) -> list[Box]:
    """Return `box` without `hole`, as up to four boxes."""
    left, top, right, bottom = box
    inner_top, inner_bottom = min(max(hole[1], top), bottom), max(min(hole[3], bottom), top)
    parts = [
        (left, top, right, inner_top),
        (left, inner_bottom, right, bottom),
        (left, inner_top, min(right, hole[0]), inner_bottom),
        (max(left, hole[2]), inner_top, right, inner_bottom),
    ]
    return [f32(part) for part in parts if part[0] < part[2] and part[1] < part[3]]
