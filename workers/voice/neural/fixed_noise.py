"""Noise that a voice draws inside its graph, made a function of the frame, so that a replay can be exact.

Exporters leave `RandomNormalLike` and `RandomUniformLike` nodes in their graphs (prior noise, and phase and noise of
the sine source). Each becomes a look-up in a table of noise, which starts at an offset that the chain derives from the
window's first frame: another window has other noise, the same window the same.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import Misconfigured

OFFSET = "mirage_noise_offset"
"""Name of the input that is added to a graph: int64 (1,), 0 to `PERIOD` - 1."""
PERIOD = 1 << 17  # entries of a table: more than the samples of any window, so no window repeats itself

_SEED = 0x4D_69_72
_STEP = 7919  # entries between the offsets of two frames: a prime, so that all offsets are used
_APART = 24_593  # entries between the offsets of two nodes
_TABLES = {"RandomNormalLike": "mirage_normal", "RandomUniformLike": "mirage_uniform"}


def offset(first_frame: int) -> NDArray[np.int64]:
    """Return what `OFFSET` is fed for a window."""
    return np.array([first_frame * _STEP % PERIOD])


def fix_noise(graph: bytes) -> bytes:
    """Return the graph with its noise looked up; the same bytes where it draws none.

    Random nodes inside branches or loops stay: `Synthesiser.repeatable` tells. Raises `Misconfigured` without onnx.
    """
    try:
        import onnx  # noqa: PLC0415 - an extra: only who loads a voice needs it
    except ImportError as error:
        raise Misconfigured("fixed noise needs the onnx package: pip install -e '.[neural]'") from error
    model = onnx.load_from_string(graph)
    drawing = [node for node in model.graph.node if node.op_type in _TABLES]
    if not drawing:
        return graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    known = (*inferred.input, *inferred.value_info, *inferred.output)
    kinds = {value.name: value.type.tensor_type.elem_type for value in known}
    draw = np.random.Generator(np.random.Philox(_SEED))
    numbers = {
        "zero": np.array(0),
        "one": np.array(1),
        "period": np.array(PERIOD),
        "normal": draw.standard_normal(PERIOD, np.float32),
        "uniform": draw.random(PERIOD, np.float32),
    }
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, f"mirage_{name}") for name, value in numbers.items()
    )
    model.graph.input.append(onnx.helper.make_tensor_value_info(OFFSET, onnx.TensorProto.INT64, [1]))
    nodes: list[Any] = []
    for node in model.graph.node:
        nodes += _looked_up(onnx, node, len(nodes), kinds) if node.op_type in _TABLES else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _looked_up(onnx: Any, node: Any, number: int, kinds: Mapping[str, int]) -> list[Any]:
    """Return the nodes that take the place of one that draws."""
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type == "RandomNormalLike":
        scale, shift = given.get("scale", 1.0), given.get("mean", 0.0)
    else:
        scale, shift = given.get("high", 1.0) - given.get("low", 0.0), given.get("low", 0.0)
    kind = given.get("dtype", kinds.get(node.input[0], onnx.TensorProto.FLOAT))

    def named(text: str) -> str:
        return f"mirage_{number}_{text}"

    def value(text: str, array: Any) -> Any:
        return onnx.helper.make_node("Constant", [], [named(text)], value=onnx.numpy_helper.from_array(array))

    def step(kind_of: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        return onnx.helper.make_node(kind_of, inputs, [output], **attributes)

    return [
        value("apart", np.array([number * _APART])),
        value("scale", np.asarray(scale, np.float32)),
        value("shift", np.asarray(shift, np.float32)),
        step("Size", [node.input[0]], named("size")),
        step("Range", ["mirage_zero", named("size"), "mirage_one"], named("range")),
        step("Add", [named("range"), OFFSET], named("from")),
        step("Add", [named("from"), named("apart")], named("place")),
        step("Mod", [named("place"), "mirage_period"], named("entry")),
        step("Gather", [_TABLES[node.op_type], named("entry")], named("flat")),
        step("Mul", [named("flat"), named("scale")], named("scaled")),
        step("Add", [named("scaled"), named("shift")], named("moved")),
        step("Shape", [node.input[0]], named("shape")),
        step("Reshape", [named("moved"), named("shape")], named("noise")),
        step("Cast", [named("noise")], node.output[0], to=kind),
    ]
