"""Networks of full size with random weights, on one core of this CPU: what a frame costs where there is no GPU.

Weights do not change what a convolution costs, shapes do. The swapper has InSwapper's shape at full width, the detector
that of SCRFD-10G with its key points, of which the layers that cost are built: stem, four stages, pyramid and towers.
Needs `onnx`. What is made is a picture of nothing: no figure here says anything about quality.
"""

import importlib.util
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.bench.neural_video import swapper_like_graph
from schemas.errors import Misconfigured
from workers.models.contract import GraphContract, Tensor
from workers.models.runtime import Runtime
from workers.video.neural import contracts
from workers.video.pixels import f32

PUBLISHED_GMAC = {"swapper": 174.7, "detector": 13.3}
"""Of one face of 128x128 and one frame of 640x640."""
_CHANNELS = 1024
_STAGES = ((56, 3), (88, 4), (88, 2), (224, 3))  # of the detector: channels, residual blocks of two convolutions
_STEM, _PYRAMID, _TOWER = (28, 28, 56), 56, 80
_RUNS = 3

_DETECTOR_LIKE = GraphContract(
    "a random graph of SCRFD-10G's shape",
    (Tensor("input.1", "float32", (1, 3, contracts.DETECTOR_SIDE, contracts.DETECTOR_SIDE)),),
    tuple(Tensor(None, "float32", (1, _TOWER, None, None)) for _ in contracts.STRIDES),
)


def measure_full(progress: Callable[[int], None] = lambda _: None) -> dict[str, object]:
    """Return the published keys: batch 1, one core, medians of three runs; the caller pins this process first.

    `gmac` is counted from the graph's own shapes (convolutions and matrix products); one GMAC is two GFLOP.
    `progress` is called with 1 twice. Takes 3 GB of memory and half a minute. Raises `Misconfigured` without `onnx`.
    """
    if importlib.util.find_spec("onnx") is None:
        raise Misconfigured(
            "networks of full size are made with onnx, which is not installed: pip install -e '.[neural]'"
        )
    parts: tuple[tuple[str, Callable[[], bytes], GraphContract], ...] = (
        ("swapper", partial(swapper_like_graph, _CHANNELS), contracts.SWAPPER),
        ("detector", detector_like_graph, _DETECTOR_LIKE),
    )
    figures: dict[str, object] = {}
    for name, make, contract in parts:
        graph = make()
        macs = multiplications(graph)
        took_ms = _run_ms(graph, contract)
        figures[f"{name}_random_weights"] = {
            "full_size_ms": round(took_ms, 1),
            "gflop_per_s": round(2 * macs / took_ms / 1e6, 1),
            "gmac": round(macs / 1e9, 1),
            "published_gmac": PUBLISHED_GMAC[name],
        }
        progress(1)
    return figures


def _run_ms(graph: bytes, contract: GraphContract) -> float:
    """Return the median CPU milliseconds of a run on one thread; the first, which allocates, does not count."""
    network = Runtime("cpu").open(graph, contract, label=contract.what)
    bound = network.bind({str(each.name): tuple(axis or 1 for axis in each.shape) for each in network.inputs})
    rng = np.random.default_rng(0)
    for buffer in bound.inputs.values():
        buffer[:] = rng.random(buffer.shape)
    spent = []
    for _ in range(_RUNS):
        started = time.thread_time()
        bound.run()
        spent.append((time.thread_time() - started) * 1000)
    return float(np.median(spent))


def multiplications(graph: bytes) -> int:
    """Return the multiply-accumulates of one run of an ONNX graph, free axes taken as 1.

    Counted are `Conv` (each output value takes one for every weight of its kernel) and `MatMul` (one for every value
    of the row): what else there is is small beside them.
    """
    from onnx import TensorProto, load_from_string, shape_inference  # noqa: PLC0415 - only where it is installed

    model = load_from_string(graph)
    weights = {each.name: tuple(each.dims) for each in model.graph.initializer}
    for each in model.graph.initializer:
        if each.data_type == TensorProto.FLOAT and len(each.dims) > 1:
            each.ClearField("raw_data")  # half a gigabyte that shapes do not depend on
    inferred = shape_inference.infer_shapes(model, strict_mode=True).graph
    shapes = {
        each.name: tuple(axis.dim_value or 1 for axis in each.type.tensor_type.shape.dim)
        for each in (*inferred.value_info, *inferred.output)
    }
    total = 0
    for node in inferred.node:
        if node.op_type == "Conv":
            total += prod(shapes[node.output[0]]) * prod(weights[node.input[1]][1:])
        elif node.op_type == "MatMul":
            total += prod(shapes[node.output[0]]) * weights[node.input[1]][0]
    return total


def detector_like_graph() -> bytes:
    """Return an ONNX graph of the cost of SCRFD-10G at 640x640, with random weights.

    Its outputs are the towers' features at strides 8, 16 and 32; the convolutions that make scores, boxes and key
    points of them are left out.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - only where it is installed

    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: dict[str, NDArray[Any]] = {"twice": f32([1, 1, 2, 2])}
    channels = {"input.1": 3}

    def add(kind: str, *given: str, **attributes: Any) -> str:
        made = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, list(given), [made], **attributes))
        channels[made] = channels[given[0]]
        return made

    def convolved(given: str, out: int, side: int = 3, stride: int = 1) -> str:
        kernel, shape = f"w{len(weights)}", (out, channels[given], side, side)
        weights[kernel] = f32(rng.standard_normal(shape) / np.sqrt(prod(shape[1:])))
        made = add("Conv", given, kernel, kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[stride] * 2)
        channels[made] = out
        return made

    def block(given: str, out: int, stride: int) -> str:
        inner = convolved(add("Relu", convolved(given, out, stride=stride)), out)
        same = given if stride == 1 and channels[given] == out else convolved(given, out, 1, stride)
        return add("Relu", add("Add", inner, same))

    x = "input.1"
    for number, out in enumerate(_STEM):
        x = add("Relu", convolved(x, out, stride=1 if number else 2))
    x = add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    levels = []
    for number, (out, blocks) in enumerate(_STAGES):
        for each in range(blocks):
            x = block(x, out, 2 if number and not each else 1)
        levels.append(x)
    pyramid = [convolved(level, _PYRAMID, 1) for level in levels[1:]]
    for upper in (1, 0):
        larger = add("Resize", pyramid[upper + 1], "", "twice", mode="nearest")
        pyramid[upper] = add("Add", pyramid[upper], larger)
    towers = [convolved(level, _PYRAMID) for level in pyramid]
    for _ in range(3):
        towers = [add("Relu", convolved(tower, _TOWER)) for tower in towers]
    side = contracts.DETECTOR_SIDE
    shapes: Mapping[str, list[int]] = {
        tower: [1, _TOWER, side // stride, side // stride]
        for tower, stride in zip(towers, contracts.STRIDES, strict=True)
    }
    made = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
