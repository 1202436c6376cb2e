"""Face detection on the SCRFD contract: nine outputs, two anchors a cell, boxes and keypoints in strides from it.

After Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022.

The same results as insightface's `SCRFD.detect`, for less: frames go straight into the graph's own input buffer, and
only cells above the threshold are decoded, not all 16,800.
"""

import numpy as np
import structlog

from schemas.errors import ModelRefused
from workers.models.byte_input import take_bytes
from workers.models.runtime import Network, Runtime
from workers.models.selftest import refuse_different
from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.neural import contracts
from workers.video.neural.contracts import ANCHORS, DETECTOR_SIDE, STRIDES
from workers.video.neural.letterbox import MEAN, STD, ByteLetterbox, FloatLetterbox
from workers.video.pixels import Float, f32

MIN_SCORE = 0.5
SAME_FACE_IOU = 0.4
_MOST_CANDIDATES = 512  # each is compared with each; six faces make about sixty
_UNITS = [f32([-stride, -stride, *[stride] * 12]) for stride in STRIDES]
"""What a box's and keypoints' values are multiplied by: its distances to the left and above point backwards."""
_PRECISION = 0.1  # of an output's peak: how far another device's arithmetic may be from the CPU's

_log = structlog.get_logger(__name__)


class Scrfd:
    """One detector, with its input buffer. Not thread-safe."""

    def __init__(self, network: Network, side: int = DETECTOR_SIDE) -> None:
        """Bind `network` (of the contract `DETECTOR` or `DETECTOR_OF_BYTES`) to frames fitted into `side` px.

        Raises `ModelRefused` when its outputs have not the rows of their strides: one in another order, or not SCRFD.
        """
        if side % STRIDES[-1]:
            raise ValueError(f"a detector side of {side} px: multiples of {STRIDES[-1]} are accepted")
        self.side = side
        given = network.inputs[0]
        name = str(given.name)
        as_bytes = given.dtype == "uint8"
        self._bound = network.bind({name: (1, side, side, 3) if as_bytes else (1, 3, side, side)})
        room = self._bound.inputs[name][0]
        self._letterbox = ByteLetterbox(room) if as_bytes else FloatLetterbox(room)
        self._outputs = [str(output.name) for output in network.outputs]
        self._centres = [_centres(side, stride) for stride in STRIDES]
        self._refuse_other_rows()

    def _refuse_other_rows(self) -> None:
        """Raise `ModelRefused` unless each output has the rows of its stride; a contract knows widths only."""
        rows = [len(centres) for centres in self._centres]
        found = [self._bound.shapes[name][0] for name in self._outputs]
        expected = rows * (len(found) // len(rows))
        if found != expected:
            raise ModelRefused(
                f"not {contracts.DETECTOR.what}: at {self.side} px outputs of {', '.join(map(str, expected))} rows are "
                f"expected (strides {', '.join(map(str, STRIDES))}), {', '.join(map(str, found))} found"
            )

    def detect(self, frame: Frame) -> list[Detection]:
        """Return the faces in `frame` (H, W, 3), best score first."""
        shrunk_by = self._letterbox.fill(frame)
        outputs = self._bound.run()
        return self.decode([outputs[name] for name in self._outputs], shrunk_by)

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


def open_detector(runtime: Runtime, graph: bytes, *, label: str, as_bytes: bool | None = None) -> Scrfd:
    """Open a detector of the contract `DETECTOR`. Raises `ModelRefused`, as `Runtime.open` does.

    `as_bytes`: edit the graph to take frames as bytes, and prove it: it must say of a picture what the graph as it came
    says on the CPU. One that does not, or cannot be edited, runs as it came, and that is logged. None does so where it
    pays: on NVIDIA's providers. CoreML would leave the conversion to the CPU, which the host does better.
    """
    if runtime.on_cuda if as_bytes is None else as_bytes:
        try:
            edited = take_bytes(graph, mean=MEAN, std=STD, label=label)
            network = runtime.open(edited, contracts.DETECTOR_OF_BYTES, label=label)
            _prove(network, Runtime("cpu").open(graph, contracts.DETECTOR, label=label), label)
            return Scrfd(network)
        except ModelRefused as error:
            _log.warning("frames_are_converted_on_the_host", reason=str(error))
    return Scrfd(runtime.open(graph, contracts.DETECTOR, label=label))


def _prove(edited: Network, original: Network, label: str) -> None:
    """Raise `ModelRefused` unless both graphs say the same of a picture."""
    side = DETECTOR_SIDE
    picture = np.random.default_rng(20).integers(0, 256, (side, side, 3), np.uint8)
    floats = np.empty((1, 3, side, side), np.float32)
    FloatLetterbox(floats[0]).fill(picture)
    wanted = original.run({str(original.inputs[0].name): floats})
    found = edited.run({str(edited.inputs[0].name): picture[None]})
    for tensor, one, other in zip(edited.outputs, found, wanted, strict=True):
        refuse_different(one, other, name=f"{label} given bytes: output {tensor.name}", tolerance=_PRECISION)


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
