"""Similarity geometry: the square crop a model wants of a face, and points carried between crop and frame."""

from dataclasses import dataclass

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.pixels import Affine, Float, f32, u8
from workers.video.topology import CHIN, FOREHEAD_TOP, LEFT_EYE_CORNER, LEFT_SIDE, RIGHT_EYE_CORNER, RIGHT_SIDE


@dataclass(frozen=True, slots=True)
class Square:
    """A square of the frame, turned so that the eyes lie level."""

    centre: tuple[float, float]  # px
    size: float  # px
    angle: float  # rad, clockwise on the image

    def to_crop(self, crop_size: int) -> Affine:
        """Return the (2, 3) affine that maps frame px to px of a `crop_size` square crop."""
        scale = crop_size / self.size
        cos, sin = np.cos(self.angle) * scale, np.sin(self.angle) * scale
        x, y = self.centre
        half = crop_size / 2
        return np.array([[cos, sin, half - cos * x - sin * y], [-sin, cos, half + sin * x - cos * y]])


def square_of_detection(detection: Detection, margin: float) -> Square:
    """Return the square around a detected face, `margin` times its box."""
    box, (right_eye, left_eye) = detection.box, detection.keypoints[:2]
    centre = (box[:2] + box[2:]) / 2
    return Square((float(centre[0]), float(centre[1])), max(detection.size * margin, 1.0), _level(right_eye, left_eye))


def square_of_landmarks(landmarks: Float, margin: float) -> Square:
    """Return the square around `landmarks` (N, 2 or more) px, `margin` times their extent along the level axes."""
    angle = _level(landmarks[RIGHT_EYE_CORNER], landmarks[LEFT_EYE_CORNER])
    cos, sin = np.cos(angle), np.sin(angle)
    level = np.array([[cos, -sin], [sin, cos]], np.float32)
    turned = landmarks[:, :2] @ level
    low, high = turned.min(axis=0), turned.max(axis=0)
    centre = level @ ((low + high) / 2)
    return Square((float(centre[0]), float(centre[1])), max(float((high - low).max()) * margin, 1.0), angle)


def _level(right_eye: Float, left_eye: Float) -> float:
    return float(np.arctan2(left_eye[1] - right_eye[1], left_eye[0] - right_eye[0]))


def crop(frame: Frame, affine: Affine, size: int, border: int = cv2.BORDER_REPLICATE) -> Frame:
    """Return the (size, size, 3) crop that `affine` (frame px to crop px) describes."""
    shrink = float(np.hypot(affine[0, 0], affine[0, 1]))
    if shrink < 0.5:  # a bilinear tap would skip pixels: halve the frame first, as often as it takes
        factor = int(2 ** np.floor(np.log2(1 / shrink)))
        height, width = frame.shape[0] // factor, frame.shape[1] // factor
        if min(height, width) >= 1:
            whole = frame[: height * factor, : width * factor]
            affine = affine.copy()
            affine[:, 2] += affine[:, :2] @ np.full(2, (factor - 1) / 2)
            affine[:, :2] *= factor
            frame = u8(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA))
    return u8(cv2.warpAffine(frame, affine, (size, size), flags=cv2.INTER_LINEAR, borderMode=border))


def inverse(affine: Affine) -> Affine:
    """Return the (2, 3) affine that undoes `affine`."""
    return np.asarray(cv2.invertAffineTransform(affine), np.float64)


def apply(affine: Affine, points: Float) -> Float:
    """Map `points` (N, 2) through the (2, 3) `affine`."""
    return f32(points @ affine[:, :2].T + affine[:, 2])


def face_size(landmarks: Float) -> float:
    """Return a face size in px that survives turning the head: width, or three quarters of the height if larger."""
    width = float(np.linalg.norm(landmarks[LEFT_SIDE, :2] - landmarks[RIGHT_SIDE, :2]))
    height = float(np.linalg.norm(landmarks[CHIN, :2] - landmarks[FOREHEAD_TOP, :2]))
    return max(width, 0.75 * height, 1e-3)
