"""The runtime: the provider asked for or an error, graphs that are what they should be, buffers that stay."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper
from structlog.testing import capture_logs

from schemas.errors import Misconfigured, ModelRefused
from tests.workers.models import graphs
from workers.models import providers, runtime
from workers.models.contract import FREE, GraphContract, Tensor
from workers.models.runtime import Runtime, problem_with

AXES = (1, 3, 8, 8)
SCALER = GraphContract("a scaler", (Tensor("target", "float32", AXES),), (Tensor("output", "float32", AXES),))
FREE_AXES = (FREE, 3, 8, 8)
BATCHED = GraphContract("a scaler", (Tensor("target", "float32", FREE_AXES),), (Tensor(None, "float32", FREE_AXES),))
CPU_ONLY: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
PICTURE = np.random.default_rng(7).random(AXES, np.float32)


def test_auto_takes_a_provider_that_runs() -> None:
    chosen = Runtime().provider
    assert problem_with(chosen) == ""
    better = list(providers.EXECUTION)[: list(providers.EXECUTION).index(chosen)]
    assert all(problem_with(name) for name in better)
    assert Runtime(chosen).accelerated == (chosen != "cpu")


@pytest.mark.parametrize("name", [name for name in providers.EXECUTION if problem_with(name)])
def test_a_provider_that_does_not_run_here_is_an_error_and_not_the_cpu(name: str) -> None:
    with pytest.raises(Misconfigured, match=rf"MIRAGE_PROVIDER={name} does not run here: this onnxruntime has .*cpu"):
        Runtime(name)


def test_nvidias_providers_are_those_on_cuda() -> None:
    chosen, found = Runtime("cpu"), []
    for chosen.provider in providers.EXECUTION:
        if chosen.on_cuda:
            found.append(chosen.provider)
    assert found == ["tensorrt", "cuda"]


def test_a_folder_that_cannot_keep_engines_is_an_error_that_names_it(tmp_path: Path) -> None:
    taken = tmp_path / "cache"
    taken.write_text("a file lies there")
    chosen = Runtime("cpu", cache_dir=taken)
    chosen.provider = "tensorrt"
    with pytest.raises(Misconfigured, match=rf"engines cannot be kept in {taken}/tensorrt/.*: Not a directory"):
        chosen.open(graphs.scaled(), SCALER, label="scaler")


def test_an_unknown_provider_is_an_error_that_names_the_known() -> None:
    with pytest.raises(Misconfigured, match=r"no such provider; accepted are auto, tensorrt, cuda, coreml, cpu"):
        Runtime("gpu")


def test_a_provider_that_is_built_in_but_not_taken_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists what it was built with, and runs on the CPU when the driver is missing. Only the list lies."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(Misconfigured, match="instead"):
        Runtime("cuda")
    chosen = Runtime("cpu")
    chosen.provider = "cuda"
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(Misconfigured, match=r"cuda asked for, ONNX Runtime took CPUExecutionProvider"),
    ):
        chosen.open(graphs.scaled(), SCALER, label="scaler")


def test_a_provider_that_is_there_and_takes_nothing_of_a_graph_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CoreML may: it is in the session's list, and every node runs on the CPU."""
    monkeypatch.setitem(providers.EXECUTION, "coreml", "CPUExecutionProvider")
    monkeypatch.setattr(runtime, "requested", lambda *_, **__: [("CPUExecutionProvider", {})])
    chosen = Runtime("coreml")
    with pytest.raises(Misconfigured, match=r"scaler: coreml takes nothing of it, the CPU all 1 nodes"):
        chosen.open(graphs.scaled(), SCALER, label="scaler")


class _Shared:
    """A session that says it gave one of its two nodes to CUDA: the other was left to the CPU."""

    def __init__(self, session: Any, left: str) -> None:
        self._session, self._left = session, left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        return [
            SimpleNamespace(ep_name=name, get_nodes=lambda kind=kind: [SimpleNamespace(op_type=kind)])
            for name, kind in (("CUDAExecutionProvider", "Cast"), ("CPUExecutionProvider", self._left))
        ]


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "MatMul", "Gemm", "Shape"])
def test_a_provider_that_leaves_the_work_to_the_cpu_is_an_error(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """As one that takes a cast only; shapes may be left."""
    real = runtime._session
    monkeypatch.setattr(runtime, "_session", lambda graph, _, threads: _Shared(real(graph, [CPU_ONLY], threads), kind))
    chosen = Runtime("cpu")
    chosen.provider = "cuda"
    if kind == "Shape":
        with capture_logs() as logs:
            assert chosen.open(graphs.scaled(), SCALER, label="scaler").inputs
        assert [(line["event"], line["left"]) for line in logs] == [("graph is shared with the CPU", {"Shape": 1})]
        return
    with pytest.raises(
        Misconfigured, match=rf"scaler: cuda takes 1 of its 2 nodes and leaves 1 of 1 {kind} to the CPU"
    ):
        chosen.open(graphs.scaled(), SCALER, label="scaler")


def test_a_graph_runs_and_says_what_it_takes() -> None:
    network = Runtime("cpu").open(graphs.scaled(), SCALER, label="scaler")
    assert network.inputs == (Tensor("target", "float32", AXES),)
    assert network.outputs == (Tensor("output", "float32", AXES),)
    np.testing.assert_array_equal(network.run({"target": PICTURE})[0], 2 * PICTURE)
    assert network.memory().graph_bytes == len(graphs.scaled())
    assert network.memory().device_bytes is None


def test_free_axes_are_none_and_half_precision_is_seen() -> None:
    contract = GraphContract(
        "half", (Tensor(None, "float16|float32", (None, 4)),), (Tensor(None, "float16", (None, 4)),)
    )
    network = Runtime("cpu").open(graphs.scaled(("n", 4), kind=graphs.HALF), contract, label="half")
    assert network.inputs == (Tensor("target", "float16", (None, 4)),)


def test_bound_buffers_are_the_same_from_run_to_run_and_give_what_run_gives() -> None:
    bound = Runtime("cpu").open(graphs.scaled(("n", 3, 8, 8)), BATCHED, label="scaler").bind({"target": (2, 3, 8, 8)})
    first = bound.run()["output"]
    bound.inputs["target"][...] = 3
    again = bound.run()["output"]
    assert again is first
    np.testing.assert_array_equal(again, np.full((2, 3, 8, 8), 6, np.float32))
    with pytest.raises(TypeError):
        bound.inputs["target"] = PICTURE  # type: ignore[index]


def test_asking_for_captured_graphs_changes_nothing_where_there_are_none_and_is_logged() -> None:
    with capture_logs() as lines:
        network = Runtime("cpu", cuda_graphs=True).open(graphs.scaled(), SCALER, label="scaler")
    assert [(line["event"], line["provider"]) for line in lines] == [("graphs_are_not_recorded", "cpu")]
    bound = network.bind({"target": AXES})
    bound.inputs["target"][...] = PICTURE
    np.testing.assert_array_equal(bound.run()["output"], network.run({"target": PICTURE})[0])


def test_several_shapes_of_one_graph_are_bound_side_by_side() -> None:
    network = Runtime("cpu").open(graphs.scaled(("n", 3, 8, 8)), BATCHED, label="scaler")
    one, two = network.bind({"target": AXES}), network.bind({"target": (2, 3, 8, 8)})
    one.inputs["target"][...] = 1
    two.inputs["target"][...] = 2
    assert float(one.run()["output"].max()) == 2
    assert float(two.run()["output"].max()) == 4
    assert float(one.run()["output"].min()) == 2


def test_buffers_of_another_shape_or_name_are_refused() -> None:
    network = Runtime("cpu").open(graphs.scaled(), SCALER, label="scaler")
    with pytest.raises(ModelRefused, match=r"\['picture'\] asked for, the graph takes \['target'\]"):
        network.bind({"picture": AXES})
    with pytest.raises(ModelRefused, match="does not run on"):
        network.bind({"target": (2, 3, 8, 8)})
    with pytest.raises(ModelRefused, match=r"does not run on target float32 \(3, 3, 8, 8\)"):
        network.run({"target": np.zeros((3, 3, 8, 8), np.float32)})


@pytest.mark.parametrize("where", ["initialiser", "attribute", "subgraph"])
def test_weights_in_another_file_are_refused_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The file lies where ONNX Runtime would look for it."""
    monkeypatch.chdir(tmp_path)
    graph = graphs.external(tmp_path, where=where)
    with pytest.raises(ModelRefused, match=r"bad\.onnx keeps tensor 'weight' in another file \('weights\.bin'\)"):
        Runtime("cpu").open(graph, SCALER, label="bad.onnx")


@pytest.mark.parametrize("data", [b"", b"hello, this is no graph", b"\x00" * 64, bytes(graphs.scaled()[:-9])])
def test_what_is_no_graph_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"^bad\.onnx "):
        Runtime("cpu").open(data, SCALER, label="bad.onnx")


def test_a_compiled_engine_is_refused() -> None:
    """An EPContext node may name a file of its own."""
    node = helper.make_node("EPContext", ["target"], ["output"], domain="com.microsoft", embed_mode=0)
    graph = helper.make_graph([node], "t", [graphs.value("target", AXES)], [graphs.value("output", AXES)])
    with pytest.raises(ModelRefused, match="EPContext"):
        Runtime("cpu").open(helper.make_model(graph).SerializeToString(), SCALER, label="bad.onnx")


def test_another_graph_is_refused_with_what_was_expected_and_found() -> None:
    with pytest.raises(ModelRefused) as refusal:
        Runtime("cpu").open(graphs.styled(), SCALER, label="bad.onnx")
    for part in ("bad.onnx is not a scaler", "1 inputs expected, 2 found", "target float32 (1, 3, 8, 8)", "source"):
        assert part in str(refusal.value)


def test_a_locked_length_is_refused_where_a_free_one_is_needed() -> None:
    with pytest.raises(ModelRefused, match=r"input target: axis 0 is locked to 1, a free length is needed"):
        Runtime("cpu").open(graphs.scaled(), BATCHED, label="locked.onnx")


def test_resident_memory_is_known_on_linux_or_not_at_all() -> None:
    use = runtime.resident_bytes()
    assert use is None or use > 1 << 20
