"""Graphs that keep the contracts of the real models and are small: built here, with fixed seeds, and never shipped.

The detector is a real one: the two vendored graphs, put behind SCRFD's input and nine outputs by constant matrices, in
one ONNX graph. So real faces are really found in the neural path. Mouth corners are approximated from the middle of the
mouth and the line of the eyes. The recogniser is a random projection of a coarse picture: the same face gives the same
direction, another face another. The swapper blurs its target and tints it by its latent, so that what came of which
identity can be read off the colours. The segmenter goes by colour: pure green is skin of the body, magenta hair, blue a
thing, and whatever a real face shows is skin of the face.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper, numpy_helper

from workers.models import vendored
from workers.models.manifest import DETECTOR, RECOGNISER, SWAPPER
from workers.models.runtime import Runtime
from workers.video.detector import _STRIDES, _anchor_centres
from workers.video.neural.contracts import (
    ANCHORS,
    CROP,
    DETECTOR_SIDE,
    EMBEDDING,
    RECOGNISER_CROP,
    SEGMENTED,
    STRIDES,
)
from workers.video.neural.engine import NeuralFaceEngine, load_neural_face
from workers.video.pixels import Float, f32

_OPSET, _IR = 17, 8
_MOUTH_WIDTH = 0.414  # half of it, in eye distances: as in the template
_DEALT = ((0, 2, 4), (1, 3, 5), (6, 7))  # of eight candidates: the coarsest stride has 800 cells for a quarter of 3,200
TINT = 0.35
"""How far a latent moves a colour, of 0..1, at most."""


class Folder:
    """Model files in memory: what a `ModelStore` is to the engine."""

    def __init__(self, graphs: Mapping[str, bytes]) -> None:
        self.graphs = dict(graphs)

    def has(self, name: str) -> bool:
        return name in self.graphs

    def read(self, name: str) -> bytes:
        return self.graphs[name]


def folder(**changes: bytes) -> Folder:
    """Return the three stand-ins under the names of the real files."""
    return Folder({DETECTOR: detector_graph(), RECOGNISER: recogniser_graph(), SWAPPER: swapper_graph(), **changes})


def neural_engine() -> NeuralFaceEngine:
    """Return an engine on stand-ins, batched."""
    return load_neural_face(folder(), Runtime("cpu"))


def tint(latent: Float) -> Float:
    """Return (3,) RGB 0..1 that the stand-in swapper adds for a latent (512,)."""
    return f32(TINT * np.tanh(latent @ _tint_weights()))


@cache
def swapper_graph(*, fixed: bool = False, emap_name: str = "buff2fs", kind: str = "tint") -> bytes:
    """Return an InSwapper: `fixed` to a batch of one, as the published file. `kind`: also `dim`, `black` and `nan`."""
    axis: Any = 1 if fixed else "batch"
    rng = np.random.default_rng(2)
    blur = np.zeros((3, 3, 3, 3), np.float32)
    for channel in range(3):
        blur[channel, channel] = 1 / 9
    factor = {"tint": 1.0, "black": 0.0, "nan": np.nan, "dim": 0.7}[kind]
    weights: dict[str, NDArray[Any]] = {
        "zero": f32(0),
        "one": f32(1),
        "blur": blur,
        "weights": _tint_weights(),
        "strength": f32(TINT),
        "shape": np.array([1 if fixed else -1, 3, 1, 1], np.int64),
        "factor": f32(factor),
        emap_name: rng.standard_normal((EMBEDDING, EMBEDDING)).astype(np.float32) / np.float32(np.sqrt(EMBEDDING)),
    }
    nodes = [
        helper.make_node("Conv", ["target", "blur"], ["blurred"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("MatMul", ["source", "weights"], ["tints"]),
        helper.make_node("Tanh", ["tints"], ["bounded"]),
        helper.make_node("Mul", ["bounded", "strength"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["planes"]),
        helper.make_node("Add", ["blurred", "planes"], ["tinted"]),
        helper.make_node("Clip", ["tinted", "zero", "one"], ["clipped"]),
        helper.make_node("Mul", ["clipped", "factor"], ["output"]),
    ]
    picture = [axis, 3, CROP, CROP]
    return _graph(nodes, {"target": picture, "source": [axis, EMBEDDING]}, {"output": picture}, weights)


@cache
def recogniser_graph() -> bytes:
    rng = np.random.default_rng(3)
    cells = RECOGNISER_CROP // 14
    weights = {"projection": rng.standard_normal((3 * cells * cells, EMBEDDING)).astype(np.float32)}
    nodes = [
        helper.make_node("AveragePool", ["input.1"], ["pooled"], kernel_shape=[14, 14], strides=[14, 14]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "projection"], ["683"]),
    ]
    shape = ["None", 3, RECOGNISER_CROP, RECOGNISER_CROP]
    return _graph(nodes, {"input.1": shape}, {"683": ["None", EMBEDDING]}, weights)


@cache
def segmenter_graph(*, side: int = SEGMENTED, factor: float = 1.0) -> bytes:
    """Return a multiclass selfie segmenter: background, hair, skin of body and face, clothes, things."""
    weights = {
        "colours": f32(60) * f32([[0, 0.5, -0.5, 0, 0, -0.5], [0, -1, 1, 0, 0, -0.5], [0, 0.5, -0.5, 0, 0, 1]]),
        "rarity": f32([-20, -20, -20, 0, -20, -20]),
        "factor": f32(factor),
    }
    nodes = [
        helper.make_node("MatMul", ["input_29", "colours"], ["likely"]),
        helper.make_node("Add", ["likely", "rarity"], ["scores"]),
        helper.make_node("Mul", ["scores", "factor"], ["Identity"]),
    ]
    return _graph(nodes, {"input_29": [1, side, side, 3]}, {"Identity": [1, side, side, 6]}, weights)


@cache
def detector_graph() -> bytes:
    """Return both vendored detectors as one SCRFD: inputs and outputs of its contract at 640 px.

    A box and keypoints in SCRFD's form are distances from the cell they are reported in, so a face may be reported in
    any cell. The vendored graphs' candidates are dealt to the cells of the three strides in turn.
    """
    weights: dict[str, NDArray[Any]] = {}
    nodes: list[onnx.NodeProto] = []
    inside: list[onnx.TensorProto] = []
    scores, points, centres = [], [], []
    for name, (side, grids) in _STRIDES.items():
        prefix = name.split(".")[0] + "/"
        inner = compose.add_prefix(onnx.load_from_string(vendored.read(name)), prefix).graph
        # Halved first: a single linear step from 640 to 192 or 128 px would skip pixels.
        weights[f"{prefix}sizes"] = np.array([1, 3, side, side], np.int64)
        weights[f"{prefix}scale"] = f32(256 / 255)  # (128 x + 127.5) 2 / 255 - 1
        nodes += [
            helper.make_node("AveragePool", ["input.1"], [f"{prefix}half"], kernel_shape=[2, 2], strides=[2, 2]),
            helper.make_node("Resize", [f"{prefix}half", "", "", f"{prefix}sizes"], [f"{prefix}small"], mode="linear"),
            helper.make_node("Mul", [f"{prefix}small", f"{prefix}scale"], [f"{prefix}range"]),
            helper.make_node("Transpose", [f"{prefix}range"], [inner.input[0].name], perm=[0, 2, 3, 1]),
            *inner.node,
        ]
        inside += inner.initializer
        regressed, logits = (output.name for output in inner.output)
        anchors = _anchor_centres(side, grids) * DETECTOR_SIDE
        weights[f"{prefix}matrix"] = _to_box_and_keypoints(DETECTOR_SIDE / side)
        weights[f"{prefix}anchors"] = f32(np.tile(anchors, 7))[None]
        nodes += [
            helper.make_node("MatMul", [regressed, f"{prefix}matrix"], [f"{prefix}offsets"]),
            helper.make_node("Add", [f"{prefix}offsets", f"{prefix}anchors"], [f"{prefix}points"]),
            helper.make_node("Sigmoid", [logits], [f"{prefix}scores"]),
        ]
        points.append(f"{prefix}points")
        scores.append(f"{prefix}scores")
        centres.append(anchors)
    nodes.append(helper.make_node("Concat", points, ["points"], axis=1))
    nodes.append(helper.make_node("Concat", scores, ["scores"], axis=1))
    shapes: dict[str, list[Any]] = {}
    outputs: dict[int, list[str]] = {1: [], 4: [], 10: []}
    candidates = sum(map(len, centres))
    for turn, stride in enumerate(STRIDES):
        mine = np.flatnonzero(np.isin(np.arange(candidates) % 8, _DEALT[turn]))
        cells = (DETECTOR_SIDE // stride) ** 2 * ANCHORS
        slots = np.arange(len(mine))
        rows, columns = np.divmod(slots // ANCHORS, DETECTOR_SIDE // stride)
        place = np.stack([columns, rows], axis=1) * stride
        weights[f"mine{stride}"] = mine.astype(np.int64)
        weights[f"place{stride}"] = f32(np.tile(place, 7))[None]
        sign = np.concatenate([[-1, -1, 1, 1], np.ones(10)]) / stride
        weights[f"unit{stride}"] = f32(sign)
        nodes += [
            helper.make_node("Gather", ["points", f"mine{stride}"], [f"found{stride}"], axis=1),
            helper.make_node("Sub", [f"found{stride}", f"place{stride}"], [f"away{stride}"]),
            helper.make_node("Mul", [f"away{stride}", f"unit{stride}"], [f"strides{stride}"]),
            helper.make_node("Gather", ["scores", f"mine{stride}"], [f"sure{stride}"], axis=1),
        ]
        for width, given, low in ((1, f"sure{stride}", 0), (4, f"strides{stride}", 0), (10, f"strides{stride}", 4)):
            output = f"{width}_{stride}"
            weights[f"{output}/columns"] = np.arange(low, low + width)
            weights[f"{output}/pads"] = np.array([0, 0, 0, 0, cells - len(slots), 0], np.int64)
            weights[f"{output}/shape"] = np.array([cells, width], np.int64)
            nodes += [
                helper.make_node("Gather", [given, f"{output}/columns"], [f"{output}/cut"], axis=2),
                helper.make_node("Pad", [f"{output}/cut", f"{output}/pads"], [f"{output}/padded"]),
                helper.make_node("Reshape", [f"{output}/padded", f"{output}/shape"], [output]),
            ]
            shapes[output] = [cells, width]
            outputs[width].append(output)
    ordered = {name: shapes[name] for width in (1, 4, 10) for name in outputs[width]}
    return _graph(nodes, {"input.1": [1, 3, DETECTOR_SIDE, DETECTOR_SIDE]}, ordered, weights, inside)


def _to_box_and_keypoints(scale: float) -> Float:
    """Return (16, 14): from a vendored graph's centre, extent and six keypoints to corners and five keypoints, px."""
    matrix = np.zeros((16, 14), np.float32)
    for axis in range(2):
        matrix[axis, [axis, 2 + axis]] = 1
        matrix[2 + axis, axis], matrix[2 + axis, 2 + axis] = -0.5, 0.5
        right, left, nose, mouth = (4 + 2 * i + axis for i in range(4))
        for given, point in ((right, 0), (left, 1), (nose, 2)):
            matrix[given, 4 + 2 * point + axis] = 1
        for point, towards in ((3, -_MOUTH_WIDTH), (4, _MOUTH_WIDTH)):
            matrix[mouth, 4 + 2 * point + axis] = 1
            matrix[left, 4 + 2 * point + axis] = towards
            matrix[right, 4 + 2 * point + axis] = -towards
    return matrix * np.float32(scale)


@cache
def _tint_weights() -> Float:
    return np.random.default_rng(1).standard_normal((EMBEDDING, 3)).astype(np.float32) * np.float32(1.5)


def _graph(
    nodes: list[onnx.NodeProto],
    inputs: Mapping[str, list[Any]],
    outputs: Mapping[str, list[Any]],
    weights: Mapping[str, NDArray[Any]],
    more: list[onnx.TensorProto] | None = None,
) -> bytes:
    def values(shapes: Mapping[str, list[Any]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

    tensors = [*(more or []), *(numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items())]
    graph = helper.make_graph(nodes, "stand-in", values(inputs), values(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
