"""Enrolment: from a portrait to an embedding, or a refusal that says what was wrong and what is accepted."""

import numpy as np

from schemas.errors import EnrolmentRefused
from workers.video.engine import Frame
from workers.video.neural.arcface import ArcFace
from workers.video.neural.scrfd import Scrfd
from workers.video.pixels import Float
from workers.video.portrait_rules import ACCEPTED, MIN_FACE_PX, must_be_picture, only_face, turn

MAX_TURN = 0.6
"""How far the nose may lie off the middle between the eyes, in half eye distances: about 35 degrees."""


def embedding_of(portrait: Frame, detector: Scrfd, recogniser: ArcFace) -> Float:
    """Return the (512,) unit embedding of the one face in `portrait` (H, W, 3) BGR. Raises `EnrolmentRefused`."""
    must_be_picture(portrait)
    picture = np.ascontiguousarray(portrait)
    face = only_face(detector.detect(picture))
    width = float(face.box[2] - face.box[0])
    if width < MIN_FACE_PX:
        raise EnrolmentRefused(f"the face in the portrait is {width:.0f} px wide; {ACCEPTED}")
    if abs(turn(*face.keypoints[:3])) > MAX_TURN:
        raise EnrolmentRefused(f"the face in the portrait is turned to the side; {ACCEPTED}")
    embedding = recogniser.embed(picture, face.keypoints)
    if embedding is None:
        raise EnrolmentRefused(f"no face that can be measured was found in the portrait; {ACCEPTED}")
    return embedding
