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
from workers.video.template import MAX_SIDE, FaceTemplate
from workers.video.topology import LEFT_SIDE, MESH_VERTICES, NOSE_TIP, RIGHT_SIDE

MIN_FACE_PX = 64
MIN_SCORE = 0.6
MIN_PRESENCE = 0.7
MAX_TURN = 0.45
"""How far the nose may lie off the middle between the sides of the face, in half widths: about 30 degrees."""
_CROP_MARGIN = 1.25
_ACCEPTED = f"accepted: a portrait of exactly one person, facing the camera, face at least {MIN_FACE_PX} px wide"


def enrol(portrait: Frame, detector: SecondOpinionDetector, mesh: FaceMesh) -> FaceTemplate:
    """Return the template of the one face in `portrait` (H, W, 3) BGR. Raises `EnrolmentRefused`."""
    if portrait.ndim != 3 or portrait.shape[2] != 3 or portrait.dtype != np.uint8 or 0 in portrait.shape:
        raise EnrolmentRefused(
            f"the portrait is {portrait.dtype} {portrait.shape}, not an 8-bit colour picture; {_ACCEPTED}"
        )
    landmarks = _fit(portrait, _only_face(detector.detect(portrait)), mesh)
    width = float(np.linalg.norm(landmarks[LEFT_SIDE, :2] - landmarks[RIGHT_SIDE, :2]))
    turn = _turn(landmarks)
    if abs(turn) > MAX_TURN:
        raise EnrolmentRefused(f"the face in the portrait is turned to the side; {_ACCEPTED}")
    if width < MIN_FACE_PX:
        raise EnrolmentRefused(f"the face in the portrait is {width:.0f} px wide; {_ACCEPTED}")
    square = geometry.square_of_landmarks(landmarks, _CROP_MARGIN)
    size = int(min(max(np.ceil(square.size), MIN_FACE_PX), MAX_SIDE))
    to_crop = square.to_crop(size)
    return FaceTemplate(
        picture=geometry.crop(portrait, to_crop, size, cv2.BORDER_REFLECT),
        points=geometry.apply(to_crop, landmarks[:MESH_VERTICES, :2]),
    )


def _only_face(found: list[Detection]) -> Detection:
    sure = [face for face in found if face.score >= MIN_SCORE]
    if not sure:
        raise EnrolmentRefused(f"no face was found in the portrait; {_ACCEPTED}")
    if len(sure) > 1:
        raise EnrolmentRefused(f"{len(sure)} faces were found in the portrait (several faces); {_ACCEPTED}")
    return sure[0]


def _fit(portrait: Frame, detection: Detection, mesh: FaceMesh) -> Float:
    """Return (478, 3) landmarks, refitted until the crop has settled."""
    square = geometry.square_of_detection(detection, MARGIN)
    landmarks, presence = mesh.landmarks(portrait, square)
    for _ in range(2):
        landmarks, presence = mesh.landmarks(portrait, geometry.square_of_landmarks(landmarks, MARGIN))
    if presence < MIN_PRESENCE:
        raise EnrolmentRefused(f"no face that can be measured was found in the portrait; {_ACCEPTED}")
    return landmarks


def _turn(landmarks: Float) -> float:
    """Return how far the head is turned, in -1..1: 0 is frontal, 1 a nose over the side of the face."""
    right, left, nose = landmarks[RIGHT_SIDE, :2], landmarks[LEFT_SIDE, :2], landmarks[NOSE_TIP, :2]
    across = left - right
    along = float((nose - right) @ across / max(float(across @ across), 1e-6))
    return 2 * along - 1
