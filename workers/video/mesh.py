"""Dense landmarks: the vendored attention mesh, 478 points and a presence score from one square crop."""

import cv2
import numpy as np

from workers.models import vendored
from workers.video import geometry
from workers.video.engine import Frame
from workers.video.geometry import Square
from workers.video.pixels import Float

CROP = 192
MARGIN = 1.5  # the crop the graph was trained on, relative to the face's extent


class FaceMesh:
    """The landmark graph."""

    def __init__(self) -> None:
        """Open the vendored graph."""
        self._session = vendored.session("face_mesh_attention.onnx")
        self._input = self._session.get_inputs()[0].name

    def landmarks(self, frame: Frame, square: Square) -> tuple[Float, float]:
        """Return (478, 3) landmarks in frame px (z too, smaller is nearer) and the presence of a face, 0..1."""
        to_crop = square.to_crop(CROP)
        pixels = geometry.crop(frame, to_crop, CROP)
        blob = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.float32)[None] * np.float32(1 / 255)
        points, logit = self._session.run(None, {self._input: blob})
        landmarks = np.empty_like(points)
        landmarks[:, :2] = geometry.apply(geometry.inverse(to_crop), points[:, :2])
        landmarks[:, 2] = points[:, 2] * np.float32(square.size / CROP)
        return landmarks, float(1 / (1 + np.exp(-np.clip(float(logit.reshape(-1)[0]), -80, 80))))
