"""A graph that wants floats is given bytes, or is refused: it never sees another picture."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from schemas.errors import ModelRefused
from tests.workers.models import graphs
from workers.models.byte_input import take_bytes
from workers.models.contract import GraphContract, Tensor
from workers.models.runtime import Runtime

OF_BYTES = GraphContract(
    "a scaler", (Tensor(None, "uint8", (1, None, None, 3)),), (Tensor("output", "float32", (1, 3, None, None)),)
)


def edited(graph: bytes) -> bytes:
    return take_bytes(graph, mean=127.5, std=128.0, label="scaler")


@pytest.mark.parametrize("axes", [(1, 3, 4, 6), (1, 3, "rows", "columns"), ("n", 3, "?", "?")])
def test_the_graph_converts_bytes_as_the_host_would(axes: graphs.Axes) -> None:
    graph = edited(graphs.scaled(axes))
    onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
    picture = np.random.default_rng(3).integers(0, 256, (1, 4, 6, 3), np.uint8)
    network = Runtime("cpu").open(graph, OF_BYTES, label="scaler")
    (found,) = network.run({str(network.inputs[0].name): picture})
    floats = (picture[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32) - np.float32(127.5)) / np.float32(128)
    np.testing.assert_array_equal(found, 2 * floats)


def test_nothing_else_is_changed() -> None:
    before, after = (onnx.load_from_string(graph) for graph in (graphs.scaled(), edited(graphs.scaled())))
    assert list(after.graph.node)[-len(before.graph.node) :] == list(before.graph.node)
    assert list(after.graph.initializer)[-len(before.graph.initializer) :] == list(before.graph.initializer)
    assert after.graph.output == before.graph.output
    assert after.opset_import == before.opset_import


def _with(**changes: Any) -> bytes:
    """Return the scaler with another operator set or a second input."""
    model = onnx.load_from_string(graphs.scaled())
    if "opset" in changes:
        model.opset_import[0].version = changes["opset"]
    if "second" in changes:
        model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, [1]))
    if "named" in changes:
        model.graph.node[0].name = changes["named"]
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (graphs.scaled((1, 4, 8, 8)), r"\(N, 3, H, W\) expected"),
        (graphs.scaled((1, "channels", 8, 8)), r"\(N, 3, H, W\) expected"),
        (graphs.scaled((3, 8, 8)), r"\(N, 3, H, W\) expected"),
        (graphs.scaled(kind=graphs.HALF), "one float32 input"),
        (_with(second=True), "one float32 input"),
        (_with(opset=6), "operator set 6, 7 or later"),
        (_with(named="x__bytes"), "names that end in"),
        (edited(graphs.scaled()), "names that end in"),
        (b"\xff\xff", "not an ONNX file"),
    ],
)
def test_any_other_graph_is_refused(graph: bytes, why: str) -> None:
    with pytest.raises(ModelRefused, match=f"scaler .*{why}"):
        edited(graph)


def test_an_initialiser_among_the_inputs_is_no_input() -> None:
    """As old exporters list them."""
    model = onnx.load_from_string(graphs.scaled())
    model.graph.input.append(helper.make_tensor_value_info("factor", TensorProto.FLOAT, []))
    after = onnx.load_from_string(edited(model.SerializeToString()))
    assert [given.name for given in after.graph.input] == ["target__bytes", "factor"]
