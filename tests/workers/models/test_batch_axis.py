"""A graph exported for one face runs for several, or is refused: it never mixes them."""

import numpy as np
import onnx
import pytest

from schemas.errors import ModelRefused
from tests.workers.models import graphs
from workers.models.batch_axis import free_first_axis, open_batched
from workers.models.contract import FREE, GraphContract, Tensor
from workers.models.runtime import Runtime

STYLED = GraphContract(
    "a styler",
    (Tensor("target", "float32", (FREE, 4, 8, 8)), Tensor("source", "float32", (FREE, 16))),
    (Tensor("output", "float32", (None, 4, 8, 8)),),
)
PLAIN = GraphContract(
    "a picture", (Tensor("target", "float32", (FREE, 3, 4, 4)),), (Tensor("output", "float32", (FREE, 3, 4, 4)),)
)


@pytest.mark.parametrize("as_node", [False, True])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, -1, 1, 1)])
def test_a_batch_gives_what_each_alone_gives(shape: tuple[int, ...], *, as_node: bool) -> None:
    """The constant shape of the batched value is freed; the same one of a weight stays as it is."""
    graph = graphs.styled(shape=shape, as_node=as_node)
    batched = open_batched(Runtime("cpu"), graph, STYLED, label="styler")
    alone = Runtime("cpu").open(graph, _fixed(STYLED), label="styler")
    rng = np.random.default_rng(8)
    targets, sources = rng.random((5, 4, 8, 8), np.float32), rng.random((5, 16), np.float32)
    together = batched.run({"target": targets, "source": sources})[0]
    apart = [alone.run({"target": targets[i : i + 1], "source": sources[i : i + 1]})[0] for i in range(5)]
    np.testing.assert_allclose(together, np.concatenate(apart), rtol=1e-5, atol=1e-6)


def test_a_constant_size_that_names_the_batch_is_freed() -> None:
    contract = GraphContract(
        "an enlarger", (Tensor("target", "float32", (FREE, 3, 4, 4)),), (Tensor("output", "float32", (None, 3, 8, 8)),)
    )
    onnx.checker.check_model(onnx.load_from_string(free_first_axis(graphs.resized(), label="x")), full_check=True)
    network = open_batched(Runtime("cpu"), graphs.resized(), contract, label="enlarger")
    assert network.run({"target": np.zeros((3, 3, 4, 4), np.float32)})[0].shape == (3, 3, 8, 8)


def test_only_what_mentions_the_batch_is_changed() -> None:
    before = onnx.load_from_string(graphs.styled())
    after = onnx.load_from_string(free_first_axis(graphs.styled(), label="styler"))
    onnx.checker.check_model(after, full_check=True)
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in before.graph.node]
    # What was there stays, and last: InSwapper's matrix is looked up as the last initialiser.
    assert list(after.graph.initializer)[-3:] == list(before.graph.initializer)
    assert after.opset_import == before.opset_import
    axes = [given.type.tensor_type.shape.dim[0] for given in (*after.graph.input, *after.graph.output)]
    assert {axis.dim_param for axis in axes} == {"batch"}
    assert len(before.graph.value_info) == 2
    assert len(after.graph.value_info) == 0


def test_a_free_axis_stays_free() -> None:
    graph = graphs.scaled(("n", 3, 4, 4))
    assert open_batched(Runtime("cpu"), graph, PLAIN, label="x").inputs[0].shape == (None, 3, 4, 4)


def test_a_graph_locked_to_several_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"styler: target cannot be batched: its first axis is locked to 2"):
        free_first_axis(graphs.styled(batch=2, shape=(2, 4, 1, 1)), label="styler")


def test_a_graph_that_mixes_its_batch_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"mixer cannot be batched: output output of two differs .* of its peak"):
        open_batched(Runtime("cpu"), graphs.mixing(), PLAIN, label="mixer")


def test_a_graph_that_folds_its_batch_into_another_shape_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"folder|does not run"):
        open_batched(Runtime("cpu"), graphs.folding(), PLAIN, label="folder")


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"x is not an ONNX file"):
        free_first_axis(b"\xff\xff", label="x")


def _fixed(contract: GraphContract) -> GraphContract:
    def fix(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(Tensor(tensor.name, tensor.dtype, (1, *tensor.shape[1:])) for tensor in tensors)

    return GraphContract(contract.what, fix(contract.inputs), fix(contract.outputs))
