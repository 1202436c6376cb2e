"""What every face engine asks of a portrait, in the same words."""

from collections.abc import Sequence

import numpy as np

from schemas.errors import EnrolmentRefused
from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.pixels import Float

MIN_FACE_PX = 64
MIN_SCORE = 0.6
ACCEPTED = f"accepted: a portrait of exactly one person, facing the camera, face at least {MIN_FACE_PX} px wide"


def must_be_picture(portrait: Frame) -> None:
    """Raise `EnrolmentRefused` unless `portrait` is (H, W, 3) uint8 and not empty."""
    if portrait.ndim != 3 or portrait.shape[2] != 3 or portrait.dtype != np.uint8 or 0 in portrait.shape:
        raise EnrolmentRefused(
            f"the portrait is {portrait.dtype} {portrait.shape}, not an 8-bit colour picture; {ACCEPTED}"
        )


def only_face(found: Sequence[Detection]) -> Detection:
    """Return the one face that was surely found; raises `EnrolmentRefused` when there is none, or several."""
    sure = [face for face in found if face.score >= MIN_SCORE]
    if not sure:
        raise EnrolmentRefused(f"no face was found in the portrait; {ACCEPTED}")
    if len(sure) > 1:
        raise EnrolmentRefused(f"{len(sure)} faces were found in the portrait (several faces); {ACCEPTED}")
    return sure[0]


def turn(right: Float, left: Float, nose: Float) -> float:
    """Return how far the head is turned: 0 is frontal, 1 a nose over `left`. Points (2,) px."""
    across = left - right
    return 2 * float((nose - right) @ across / max(float(across @ across), 1e-6)) - 1
