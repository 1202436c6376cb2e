"""Face detection on the SCRFD contract: nine outputs, two anchors a cell, boxes and keypoints in strides from it.

After Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022.

The same results as insightface's `SCRFD.detect`, for less: frames go straight into the graph's own input buffer, and
only cells above the threshold are decoded, not all 16,800.
"""

import cv2
import numpy as np

from workers.models.runtime import Network
from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.neural.contracts import ANCHORS, DETECTOR_SIDE, STRIDES
from workers.video.pixels import Float, Mask, f32

MIN_SCORE = 0.5
SAME_FACE_IOU = 0.4
_MOST_CANDIDATES = 512  # each is compared with each; six faces make about sixty
_MEAN, _STD = 127.5, 128.0
_NO_PICTURE = (0 - _MEAN) / _STD  # black, as the graph sees it
_UNITS = [f32([-stride, -stride, *[stride] * 12]) for stride in STRIDES]
"""What a box's and keypoints' values are multiplied by: its distances to the left and above point backwards."""


class Scrfd:
    """One detector, with its input buffer. Not thread-safe."""

    def __init__(self, network: Network, side: int = DETECTOR_SIDE) -> None:
        """Bind `network` (of the contract `DETECTOR`) to frames fitted into `side` px."""
        if side % STRIDES[-1]:
            raise ValueError(f"a detector side of {side} px: multiples of {STRIDES[-1]} are accepted")
        self.side = side
        name = str(network.inputs[0].name)
        self._bound = network.bind({name: (1, 3, side, side)})
        self._planes = self._bound.inputs[name][0]  # (3, side, side) RGB
        self._outputs = [str(output.name) for output in network.outputs]
        self._centres = [_centres(side, stride) for stride in STRIDES]
        self._fitted = np.empty((0, 0, 3), np.uint8)
        self._channels = [np.empty((0, 0), np.uint8)] * 3

    def detect(self, frame: Frame) -> list[Detection]:
        """Return the faces in `frame` (H, W, 3), best score first."""
        shrunk_by = self.prepare(frame)
        outputs = self._bound.run()
        return self.decode([outputs[name] for name in self._outputs], shrunk_by)

    def prepare(self, frame: Frame) -> float:
        """Fit `frame` into the top left of the input buffer; return how many times smaller it is there (a factor)."""
        height, width = frame.shape[:2]
        if height > width:  # the rounding is the reference's: it decides which pixels are compared
            rows, columns = self.side, max(int(self.side / (height / width)), 1)
        else:
            rows, columns = max(int(self.side * (height / width)), 1), self.side
        if (rows, columns) != self._fitted.shape[:2]:
            self._planes.fill(_NO_PICTURE)  # what the picture leaves free is padding
            self._fitted = np.empty((rows, columns, 3), np.uint8)
            self._channels = [np.empty((rows, columns), np.uint8) for _ in range(3)]
        cv2.resize(frame, (columns, rows), dst=self._fitted, interpolation=_interpolation(frame.shape, rows, columns))
        cv2.split(self._fitted, self._channels)
        for plane, values in zip(self._planes, reversed(self._channels), strict=True):
            _to_range(values, plane[:rows, :columns])
        return float(rows / height)

    def decode(self, outputs: list[Float], shrunk_by: float) -> list[Detection]:
        """Return what nine `outputs` say, in px of the frame; one detection a face."""
        levels = len(STRIDES)
        found = []  # (n, 15) of each level with hits: score, box, keypoints
        for level, (units, centres) in enumerate(zip(_UNITS, self._centres, strict=True)):
            scores = outputs[level].reshape(-1)
            (hits,) = (scores >= MIN_SCORE).nonzero()
            if not len(hits):
                continue
            faces = np.empty((len(hits), 15), np.float32)
            faces[:, 0] = scores.take(hits)
            places = faces[:, 1:]
            places[:, :4] = outputs[level + levels].reshape(-1, 4).take(hits, 0)
            places[:, 4:] = outputs[level + 2 * levels].reshape(-1, 10).take(hits, 0)
            places *= units
            places += centres.take(hits, 0)
            found.append(faces)
        if not found:
            return []
        faces = np.concatenate(found)
        faces[:, 1:] /= shrunk_by
        faces = faces[np.argsort(-faces[:, 0], kind="stable")[:_MOST_CANDIDATES]]
        return [
            Detection(float(face[0]), face[1:5], face[5:].reshape(5, 2))
            for face in (faces[i] for i in _best(faces[:, 1:5]))
        ]


def _interpolation(shape: tuple[int, ...], rows: int, columns: int) -> int:
    """Return the cheapest way to what linear interpolation gives.

    Shrunk by an odd whole factor, as 1080p is to 640 px, every place asked for is the middle of a px: nothing is
    interpolated, and taking that px costs a third.
    """
    factor = shape[0] // rows
    middles = factor % 2 == 1 and shape[:2] == (factor * rows, factor * columns)
    return cv2.INTER_NEAREST_EXACT if middles else cv2.INTER_LINEAR


def _to_range(values: Mask, plane: Float) -> None:
    """Write `values` (H, W) into `plane` (H, W) as (x - 127.5) / 128. The corners of `values` are overwritten.

    OpenCV's one conversion from bytes to scaled floats in Python's reach is `normalize`, which stretches what it finds
    from least to most; so both ends of the range are put where it finds them. It takes 0.4 of the time of any
    arithmetic operation, and is exact: the scale is a power of two.
    """
    first, last = values[0, 0], values[-1, -1]
    values[0, 0], values[-1, -1] = 0, 255
    cv2.normalize(values, plane, -_MEAN / _STD, _MEAN / _STD, cv2.NORM_MINMAX, cv2.CV_32F)
    plane[0, 0], plane[-1, -1] = ((float(value) - _MEAN) / _STD for value in (first, last))


def _centres(side: int, stride: int) -> Float:
    """Return (n, 14) px of the anchors of one stride, row by row, x and y in turn; those of a cell are one place."""
    cells = side // stride
    rows, columns = np.divmod(np.arange(cells * cells), cells)
    return f32(np.tile(np.repeat(np.stack([columns, rows], axis=1) * stride, ANCHORS, axis=0), 7))


def _best(boxes: Float) -> list[int]:
    """Return which of `boxes` (n, 4), best first, overlap no better one. Their last px is inside, hence the ones."""
    lefts, tops, rights, bottoms = np.ascontiguousarray(boxes.T)  # a column at a time: sums over axes of two are slow
    areas = (rights - lefts + 1) * (bottoms - tops + 1)
    across = np.minimum(rights[:, None], rights) - np.maximum(lefts[:, None], lefts) + 1
    down = np.minimum(bottoms[:, None], bottoms) - np.maximum(tops[:, None], tops) + 1
    inside = np.maximum(across, 0) * np.maximum(down, 0)  # (n, n)
    doubles = inside > SAME_FACE_IOU * (areas[:, None] + areas - inside)
    free = np.ones(len(boxes), np.bool_)
    kept = []
    for i in range(len(boxes)):
        if free[i]:
            kept.append(i)
            free &= ~doubles[i]
    return kept
