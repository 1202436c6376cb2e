"""Enrolment: from a portrait to a template, or a refusal that says what was wrong and what is accepted."""

import cv2
import numpy as np

from schemas.errors import EnrolmentRefused
from workers.video import geometry
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.mesh import MARGIN, FaceMesh
from workers.video.pixels import Float
from workers.video.portrait_rules import ACCEPTED, MIN_FACE_PX, must_be_picture, only_face, turn
from workers.video.template import MAX_SIDE, FaceTemplate
from workers.video.topology import LEFT_SIDE, MESH_VERTICES, NOSE_TIP, RIGHT_SIDE

MIN_PRESENCE = 0.7
MAX_TURN = 0.45
"""How far the nose may lie off the middle between the sides of the face, in half widths: about 30 degrees."""
_CROP_MARGIN = 1.25


def enrol(portrait: Frame, detector: SecondOpinionDetector, mesh: FaceMesh) -> FaceTemplate:
    """Return the template of the one face in `portrait` (H, W, 3) BGR. Raises `EnrolmentRefused`."""
    must_be_picture(portrait)
    landmarks = _fit(portrait, only_face(detector.detect(portrait)), mesh)
    width = float(np.linalg.norm(landmarks[LEFT_SIDE, :2] - landmarks[RIGHT_SIDE, :2]))
    nose_off = turn(*(landmarks[at, :2] for at in (RIGHT_SIDE, LEFT_SIDE, NOSE_TIP)))
    if abs(nose_off) > MAX_TURN:
        raise EnrolmentRefused(f"the face in the portrait is turned to the side; {ACCEPTED}")
    if width < MIN_FACE_PX:
        raise EnrolmentRefused(f"the face in the portrait is {width:.0f} px wide; {ACCEPTED}")
    square = geometry.square_of_landmarks(landmarks, _CROP_MARGIN)
    size = int(min(max(np.ceil(square.size), MIN_FACE_PX), MAX_SIDE))
    to_crop = square.to_crop(size)
    return FaceTemplate(
        picture=geometry.crop(portrait, to_crop, size, cv2.BORDER_REFLECT),
        points=geometry.apply(to_crop, landmarks[:MESH_VERTICES, :2]),
    )


def _fit(portrait: Frame, detection: Detection, mesh: FaceMesh) -> Float:
    """Return (478, 3) landmarks, refitted until the crop has settled."""
    square = geometry.square_of_detection(detection, MARGIN)
    landmarks, presence = mesh.landmarks(portrait, square)
    for _ in range(2):
        landmarks, presence = mesh.landmarks(portrait, geometry.square_of_landmarks(landmarks, MARGIN))
    if presence < MIN_PRESENCE:
        raise EnrolmentRefused(f"no face that can be measured was found in the portrait; {ACCEPTED}")
    return landmarks
