"""Where something lies before a swapped face, so that the frame stays there: a hand, a fringe, a microphone.

Whatever is left open shows the frame raw, and a segmenter that takes bare skin for a hand would show the performer. So
its word is not enough. A px is opened only where all of this holds, and a mistake then shows a part, never the face:

| rule                                                                       | what it is against                     |
|----------------------------------------------------------------------------|----------------------------------------|
| classes that may lie before a face, `_SURE` together; background is none   | "no face here" taken for "a hand here" |
| so in the last frame too, within `_REACH` of it                            | a face flashing for a frame            |
| part of a region that reaches beyond the face                              | moles, shadows, eyes, an open mouth    |
| skin of the body: only where `_PROOF` frames showed something else         | a chin or cheek always taken for neck  |
| hair: only above the tip of the nose                                       | beards, which are the performer's      |
| hair and things: not at the eyes                                           | glasses, which show the eyes           |
| `MOST_OPEN` of the face at most, or nothing is opened                      | everything else                        |

`MOST_OPEN` leaves the whole below what counts as a leak: at 0.4 open, a swap whose structural similarity is 0.85 (the
highest of the test clip) comes to 0.91, and 0.95 is a leak. A mask is never carried to the next frame: the hand moves
away, and what it hid would show. What is opened fades inwards, so the softness opens nothing more.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from workers.video.pixels import Float, Mask, u8

SIDE = 128
"""Px of the crop that is decided on: InSwapper's, in whose coordinates eyes, nose and mouth have fixed places."""
HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, THINGS = 1, 2, 3, 4, 5
CLASSES = 6
"""Of MediaPipe's multiclass selfie segmenter, in its order; 0 is the background."""
MOST_OPEN = 0.4
"""Largest share of the face that is opened."""
_LESS_OPEN = 0.3  # the same after more than that was asked for, so that a hand about to cover the face does not flicker
_SURE = 0.9
_PROOF = 15  # frames
_REACH = 9  # px of the crop that the edge of a hand may move between frames, in the face's own coordinates
_FACE = ((64, 66), (46, 56))  # centre and radii, px: from the hairline to below the chin
_EYES = (((46, 52), (14, 10)), ((82, 52), (14, 10)))
_NOSE = 72  # row of its tip
_LEAST = 5  # px: what is narrower than this is no hand
_SOFT = (3, 3)  # px: what is open fades within them
_SEEN = 255  # frames are counted up to here


def _ellipse(centre: tuple[int, int], radii: tuple[int, int]) -> NDArray[np.bool_]:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    cv2.ellipse(canvas, centre, radii, 0, 0, 360, 1, -1)
    return canvas > 0


def _disc(side: int) -> Mask:
    return u8(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def _allowed() -> Float:
    """Return (CLASSES, SIDE, SIDE) 0 or 1: where each class may lie before the face, whatever the past."""
    at = np.zeros((CLASSES, SIDE, SIDE), np.float32)
    at[[BODY_SKIN, CLOTHES]] = 1
    away_from_eyes = ~(_ellipse(*_EYES[0]) | _ellipse(*_EYES[1]))
    at[THINGS] = away_from_eyes
    at[HAIR, :_NOSE] = away_from_eyes[:_NOSE]
    return at


FACE_ZONE = _ellipse(*_FACE)
"""(SIDE, SIDE): where the crop shows the face itself."""
_ALLOWED = _allowed()
_SPECK, _MOVED, _EDGE = _disc(_LEAST), _disc(2 * _REACH + 1), np.ones(_SOFT, np.uint8)


class OcclusionMemory:
    """What one track's frames have shown so far, in the coordinates of its crop."""

    def __init__(self) -> None:
        """Start without a past: the first frame opens nothing, and skin proves first that it is not the face's."""
        self.other = np.zeros((SIDE, SIDE), np.uint8)  # frames that showed something else than skin of the body
        self.before: Mask | None = None  # (SIDE, SIDE) 0 or 1: what lay before the face in the last frame
        self.shut = False  # more was asked for than may be open

    def forget_last(self) -> None:
        """Note that a frame went by unseen: the next one opens nothing."""
        self.before = None


def opening(scores: Float, memory: OcclusionMemory) -> Mask | None:
    """Return (SIDE, SIDE) 0..255, how much of the frame stays visible; None where nothing does.

    `scores` (SIDE, SIDE, CLASSES) are the segmenter's logits over the crop, finite. `memory` is the track's, and
    modified: call it once a frame, in order.
    """
    found, proven = _found(scores, memory)
    last, memory.before = memory.before, found
    if last is None:
        return None
    kept = _reaching_out(u8(cv2.bitwise_and(found, cv2.dilate(last, _MOVED)))) & proven
    share = float(kept[FACE_ZONE].mean())
    memory.shut = share > (_LESS_OPEN if memory.shut else MOST_OPEN)
    if memory.shut or not kept.any():
        return None
    return u8(cv2.blur(cv2.erode(kept * np.uint8(255), _EDGE), _SOFT))


def _found(scores: Float, memory: OcclusionMemory) -> tuple[Mask, Mask]:
    """Return what the segmenter is sure of, where it may be, and where that may be opened; count what it saw.

    Both are (SIDE, SIDE), 0 or 1.
    """
    planes = np.ascontiguousarray(scores.transpose(2, 0, 1))
    planes -= planes.max(axis=0)
    weights = np.exp(planes, out=planes)
    total = weights.sum(axis=0)
    other = weights[BODY_SKIN] < 0.5 * total
    proven = other | (memory.other >= _PROOF)
    memory.other += other & (memory.other < _SEEN)
    sure = ((weights * _ALLOWED).sum(axis=0) >= _SURE * total).astype(np.uint8)
    return u8(cv2.morphologyEx(sure, cv2.MORPH_OPEN, _SPECK)), proven.astype(np.uint8)


def _reaching_out(found: Mask) -> Mask:
    """Return the regions of `found` (SIDE, SIDE) 0 or 1 that are not all inside the face."""
    count, labels = cv2.connectedComponents(found, connectivity=4)
    reaches = np.zeros(count, np.uint8)
    reaches[labels[~FACE_ZONE]] = 1
    reaches[0] = 0  # what is not found
    return u8(reaches[labels])
