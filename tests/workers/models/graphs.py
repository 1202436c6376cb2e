"""Tiny graphs that the tests build: well-behaved, and hostile."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Axes = Sequence[int | str]
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64


def value(name: str, axes: Axes, kind: int = FLOAT) -> Any:
    """Return an input or output; a name among the axes is a free one."""
    return helper.make_tensor_value_info(name, kind, list(axes))


def constant(name: str, array: NDArray[Any]) -> Any:
    """Return an initialiser."""
    return numpy_helper.from_array(array, name)


def built(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], *constants: Any, **more: Any) -> bytes:
    """Return a checked model as bytes."""
    graph = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), list(constants), **more)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def scaled(axes: Axes = (1, 3, 8, 8), *, by: float = 2.0, kind: int = FLOAT) -> bytes:
    """Return `target` → `output` = `by` * `target`."""
    factor = constant("factor", np.array(by, np.float16 if kind == HALF else np.float32))
    node = helper.make_node("Mul", ["target", "factor"], ["output"])
    return built([node], [value("target", axes, kind)], [value("output", axes, kind)], factor)


def styled(*, batch: int = 1, shape: Sequence[int] = (1, 4, 1, 1), as_node: bool = False) -> bytes:
    """Return a picture scaled channel by channel by a vector that is reshaped to a constant shape, as swappers do.

    `target` (batch, 4, 8, 8), `source` (batch, 16) → `output` (batch, 4, 8, 8). A weight is reshaped from (4,) too:
    that has nothing to do with the batch, though its shape begins with 1.
    """
    rng = np.random.default_rng(6)
    wanted = np.array(shape, np.int64)
    nodes = [
        helper.make_node("MatMul", ["source", "weight"], ["style"]),
        helper.make_node("Reshape", ["style", "to"], ["column"]),
        helper.make_node("Mul", ["target", "column"], ["scaled"]),
        helper.make_node("Reshape", ["shift", "to"], ["lift"]),
        helper.make_node("Add", ["scaled", "lift"], ["output"]),
    ]
    constants = [
        constant("weight", rng.standard_normal((16, 4)).astype(np.float32)),
        constant("shift", rng.standard_normal(4).astype(np.float32)),
    ]
    if as_node:
        nodes.insert(0, helper.make_node("Constant", [], ["to"], value=constant("", wanted)))
    else:
        constants.append(constant("to", wanted))
    return built(
        nodes,
        [value("target", (batch, 4, 8, 8)), value("source", (batch, 16))],
        [value("output", (batch, 4, 8, 8))],
        *constants,
        value_info=[value("column", (1, 4, 1, 1)), value("style", (1, 4))],
    )


def resized() -> bytes:
    """Return a graph that enlarges `target` (1, 3, 4, 4) to a constant size, which names the batch too."""
    node = helper.make_node("Resize", ["target", "", "", "size"], ["output"], mode="linear")
    size = constant("size", np.array([1, 3, 8, 8], np.int64))
    return built([node], [value("target", (1, 3, 4, 4))], [value("output", (1, 3, 8, 8))], size)


def mixing() -> bytes:
    """Return a graph that subtracts the mean over the batch: it runs on any batch, and mixes its members."""
    nodes = [
        helper.make_node("ReduceMean", ["target"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["target", "mean"], ["left"]),
        helper.make_node("Add", ["left", "one"], ["output"]),
    ]
    axes = (1, 3, 4, 4)
    return built(nodes, [value("target", axes)], [value("output", axes)], constant("one", np.array(1, np.float32)))


def folding() -> bytes:
    """Return a graph that folds its batch into a constant shape that does not begin with 1."""
    nodes = [
        helper.make_node("Reshape", ["target", "flat"], ["rows"]),
        helper.make_node("Reshape", ["rows", "back"], ["output"]),
    ]
    flat, back = np.array([12, 4], np.int64), np.array([1, 3, 4, 4], np.int64)
    axes = (1, 3, 4, 4)
    return built(
        nodes, [value("target", axes)], [value("output", axes)], constant("flat", flat), constant("back", back)
    )


def broken(*, number: float) -> bytes:
    """Return a graph whose output is `number` everywhere, whatever comes in."""
    nodes = [
        helper.make_node("Mul", ["target", "nothing"], ["zero"]),
        helper.make_node("Add", ["zero", "number"], ["output"]),
    ]
    axes = (1, 3, 4, 4)
    constants = (constant("nothing", np.array(0, np.float32)), constant("number", np.array(number, np.float32)))
    return built(nodes, [value("target", axes)], [value("output", axes)], *constants)


def external(folder: Path, *, where: str) -> bytes:
    """Return a graph whose weight lies in another file. `where`: `initialiser`, `attribute` or `subgraph`."""
    weight = constant("weight", np.ones(64, np.float32))
    raw = weight.raw_data
    (folder / "weights.bin").write_bytes(raw)
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, given in (("location", "weights.bin"), ("offset", "0"), ("length", str(len(raw)))):
        entry = weight.external_data.add()
        entry.key, entry.value = key, given
    io = [value("target", (64,))], [value("output", (64,))]
    if where == "initialiser":
        graph = helper.make_graph([helper.make_node("Add", ["target", "weight"], ["output"])], "test", *io, [weight])
    elif where == "attribute":
        nodes = [
            helper.make_node("Constant", [], ["weight"], value=weight),
            helper.make_node("Add", ["target", "weight"], ["output"]),
        ]
        graph = helper.make_graph(nodes, "test", *io)
    else:
        inner = [helper.make_node("Add", ["target", "weight"], ["inner"])]
        branch = helper.make_graph(inner, "branch", [], [value("inner", (64,))], [weight])
        truth = constant("yes", np.array(1, bool))
        node = helper.make_node("If", ["yes"], ["output"], then_branch=branch, else_branch=branch)
        graph = helper.make_graph([node], "test", *io, [truth])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
