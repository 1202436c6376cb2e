"""Face detection: two vendored single-shot graphs, their anchors, and weighted suppression of duplicates.

The full-range graph sees faces down to about a twentieth of the frame; the short-range one is three times cheaper, sees
only close faces, and is surer about them. So full-range finds, and short-range gives a second opinion when full-range
found nothing or is unsure.
"""

import cv2
import numpy as np

from workers.models import vendored
from workers.video.engine import Frame
from workers.video.faces import Detection, overlap
from workers.video.pixels import Float, f32, u8

MIN_SCORE = 0.5
SAME_FACE_IOU = 0.3
SURE = 0.85  # the specification's confidence of a stable track

_LEAST_LOGIT = float(np.log(MIN_SCORE / (1 - MIN_SCORE)))
_STRIDES = {  # per graph: input side px, and (stride, anchors a cell) of each output grid
    "face_detection_full_range.onnx": (192, ((4, 1),)),
    "face_detection_short_range.onnx": (128, ((8, 2), (16, 6))),
}


def _anchor_centres(side: int, grids: tuple[tuple[int, int], ...]) -> Float:
    """Return (A, 2) anchor centres in 0..1, row by row, each repeated as often as its cell has anchors."""
    centres = []
    for stride, repeats in grids:
        cells = side // stride
        rows, columns = np.divmod(np.arange(cells * cells), cells)
        centres.append(np.repeat(np.stack([columns, rows], axis=1) + 0.5, repeats, axis=0) / cells)
    return np.concatenate(centres).astype(np.float32)


class BlazeFace:
    """One graph of the family."""

    def __init__(self, name: str) -> None:
        """Open vendored graph `name`."""
        self.side, grids = _STRIDES[name]  # px of the square it looks at
        self._anchors = _anchor_centres(self.side, grids)
        self._session = vendored.session(name)
        self._input = self._session.get_inputs()[0].name
        self._blob = np.empty((1, self.side, self.side, 3), np.float32)  # a fresh one costs 0.15 ms of page faults

    def look(self, square: Frame) -> tuple[Float, Float]:
        """Return what the graph sees in `square` (side, side, 3), duplicates included.

        The scores (n,) are 0..1; the points (n, 8, 2), 0..1 of the square, are two box corners and six keypoints.
        """
        np.multiply(cv2.cvtColor(square, cv2.COLOR_BGR2RGB), np.float32(2 / 255), out=self._blob[0])
        self._blob -= np.float32(1)
        regressed, logits = self._session.run(None, {self._input: self._blob})
        logits = logits[0, :, 0]
        hits = np.flatnonzero(logits > _LEAST_LOGIT)
        scores = 1 / (1 + np.exp(-np.minimum(logits[hits], 80)))
        points = regressed[0, hits].reshape(-1, 8, 2) / np.float32(self.side)  # centre, extent, six keypoints
        half = points[:, 1] / 2
        points[:, 1] = 0
        points += self._anchors[hits, None]
        points[:, 1] = points[:, 0] + half
        points[:, 0] -= half
        return f32(scores), f32(points)


def letterbox(frame: Frame, side: int) -> tuple[Frame, float, Float]:
    """Fit `frame` into a black (side, side, 3) square; return it with the scale and the (2,) px offset used.

    Area resampling by a fraction costs ten times a halving followed by a bilinear step (0.75 ms against 0.08 ms at
    512², one core), and the detector does not see the difference.
    """
    height, width = frame.shape[:2]
    scale = side / max(height, width)
    wide, high = max(round(width * scale), 1), max(round(height * scale), 1)
    factor = int(1 / scale)
    if factor >= 2:
        even_height, even_width = height // factor * factor, width // factor * factor
        if even_height and even_width:
            small = (even_width // factor, even_height // factor)
            frame = u8(cv2.resize(frame[:even_height, :even_width], small, interpolation=cv2.INTER_AREA))
    offset = np.array([(side - wide) // 2, (side - high) // 2], np.float32)
    square = np.zeros((side, side, 3), np.uint8)
    left, top = int(offset[0]), int(offset[1])
    square[top : top + high, left : left + wide] = cv2.resize(frame, (wide, high), interpolation=cv2.INTER_LINEAR)
    return square, scale, offset


def _merge_duplicates(scores: Float, points: Float) -> list[Detection]:
    """Merge overlapping hits into one face each, weighted by score. `points` (n, 8, 2): box corners, keypoints."""
    boxes = points[:, :2].reshape(-1, 4)
    left = np.argsort(-scores)
    found = []
    while len(left):
        same = overlap(boxes[left[0]], boxes[left]) > SAME_FACE_IOU
        same[0] = True
        group = left[same]
        weights = scores[group] / scores[group].sum()
        merged = f32(np.tensordot(weights, points[group], axes=1))
        found.append(Detection(float(scores[left[0]]), merged[:2].reshape(4), merged[2:]))
        left = left[~same]
    return found


class SecondOpinionDetector:
    """Full-range for every face; short-range as well when full-range found nothing or is unsure about a face."""

    def __init__(self) -> None:
        """Open both graphs."""
        self._far = BlazeFace("face_detection_full_range.onnx")
        self._near = BlazeFace("face_detection_short_range.onnx")

    def detect(self, frame: Frame) -> list[Detection]:
        """Return the faces in `frame`, largest first; a face that both graphs see has the surer one's score."""
        square, scale, offset = letterbox(frame, self._far.side)

        def look(graph: BlazeFace, seen: Frame) -> list[Detection]:
            scores, points = graph.look(seen)
            return _merge_duplicates(scores, f32((points * self._far.side - offset) / scale))

        found = look(self._far, square)
        if not found or min(face.score for face in found) < SURE:
            # Shrunk from the larger square: fitting the frame again costs eight times as much.
            size = (self._near.side, self._near.side)
            found = _unite(found, look(self._near, u8(cv2.resize(square, size, interpolation=cv2.INTER_LINEAR))))
        return sorted(found, key=lambda face: -face.size)


def _unite(first: list[Detection], second: list[Detection]) -> list[Detection]:
    united = list(first)
    for other in second:
        ious = overlap(other.box, np.stack([face.box for face in united])) if united else np.zeros(0, np.float32)
        if len(ious) and ious.max() > SAME_FACE_IOU:
            best = int(ious.argmax())
            if other.score > united[best].score:
                united[best] = other
        else:
            united.append(other)
    return united
