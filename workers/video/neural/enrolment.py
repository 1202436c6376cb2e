"""Enrolment: from a portrait to an embedding, or a refusal that says what was wrong and what is accepted."""

import numpy as np

from schemas.errors import EnrolmentRefused
from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.neural.arcface import ArcFace
from workers.video.neural.scrfd import Scrfd
from workers.video.pixels import Float

MIN_FACE_PX = 64
MIN_SCORE = 0.6
MAX_TURN = 0.6
"""How far the nose may lie off the middle between the eyes, in half eye distances: about 35 degrees."""
_ACCEPTED = f"accepted: a portrait of exactly one person, facing the camera, face at least {MIN_FACE_PX} px wide"


def embedding_of(portrait: Frame, detector: Scrfd, recogniser: ArcFace) -> Float:
    """Return the (512,) unit embedding of the one face in `portrait` (H, W, 3) BGR. Raises `EnrolmentRefused`."""
    if portrait.ndim != 3 or portrait.shape[2] != 3 or portrait.dtype != np.uint8 or 0 in portrait.shape:
        raise EnrolmentRefused(
            f"the portrait is {portrait.dtype} {portrait.shape}, not an 8-bit colour picture; {_ACCEPTED}"
        )
    picture = np.ascontiguousarray(portrait)
    face = _only_one(detector.detect(picture))
    width = float(face.box[2] - face.box[0])
    if width < MIN_FACE_PX:
        raise EnrolmentRefused(f"the face in the portrait is {width:.0f} px wide; {_ACCEPTED}")
    if abs(_turn(face.keypoints)) > MAX_TURN:
        raise EnrolmentRefused(f"the face in the portrait is turned to the side; {_ACCEPTED}")
    embedding = recogniser.embed(picture, face.keypoints)
    if embedding is None:
        raise EnrolmentRefused(f"no face that can be measured was found in the portrait; {_ACCEPTED}")
    return embedding


def _only_one(found: list[Detection]) -> Detection:
    sure = [face for face in found if face.score >= MIN_SCORE]
    if not sure:
        raise EnrolmentRefused(f"no face was found in the portrait; {_ACCEPTED}")
    if len(sure) > 1:
        raise EnrolmentRefused(f"{len(sure)} faces were found in the portrait (several faces); {_ACCEPTED}")
    return sure[0]


def _turn(keypoints: Float) -> float:
    """Return how far the head is turned: 0 is frontal, 1 a nose under an eye."""
    right, left, nose = keypoints[:3]
    across = left - right
    return 2 * float((nose - right) @ across / max(float(across @ across), 1e-6)) - 1
