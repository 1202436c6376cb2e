"""What is asked of ONNX Runtime, for providers that this machine may not have."""

from pathlib import Path

import pytest

from workers.models.providers import EXECUTION, Requested, engine_folder, requested, shortfall, taken

SHA = "ab" * 32


def options(provider: str, *, cache: Path | None = None, half: bool = False, captured: bool = False) -> Requested:
    return requested(provider, graph_sha256=SHA, ort_version="1.31.1", cache_dir=cache, half=half, captured=captured)


@pytest.mark.parametrize("provider", EXECUTION)
def test_the_provider_comes_first_and_the_cpu_last(provider: str) -> None:
    names = [name for name, _ in options(provider)]
    assert names[0] == EXECUTION[provider]
    assert names[-1] == "CPUExecutionProvider"
    assert len(set(names)) == len(names)


def test_tensorrt_leaves_to_cuda_what_it_cannot_do() -> None:
    assert [name for name, _ in options("tensorrt")][1] == "CUDAExecutionProvider"


def test_engines_are_kept_by_graph_and_onnx_runtime(tmp_path: Path) -> None:
    """An engine built by another version, or of another graph, must never be loaded."""
    given = options("tensorrt", cache=tmp_path)[0][1]
    folder = engine_folder(tmp_path, graph_sha256=SHA, ort_version="1.31.1")
    assert given["trt_engine_cache_enable"] == "1"
    assert given["trt_engine_cache_path"] == given["trt_timing_cache_path"] == str(folder)
    others = {
        engine_folder(tmp_path, graph_sha256="cd" * 32, ort_version="1.31.1"),
        engine_folder(tmp_path, graph_sha256=SHA, ort_version="1.32.0"),
    }
    assert folder not in others
    assert len(others) == 2


def test_without_a_folder_nothing_is_kept() -> None:
    given = options("tensorrt")[0][1]
    assert given["trt_engine_cache_enable"] == "0"
    assert "trt_engine_cache_path" not in given


@pytest.mark.parametrize("on", [False, True])
def test_half_precision_and_captured_graphs_are_flags(*, on: bool) -> None:
    expected = "1" if on else "0"
    assert options("tensorrt", half=on)[0][1]["trt_fp16_enable"] == expected
    assert options("cuda", captured=on)[0][1]["enable_cuda_graph"] == expected


def test_tensorrt_is_told_the_shapes_to_come() -> None:
    """All inputs in each option, as it wants them; without them it is told nothing."""
    shapes = [{"target": (n, 3, 128, 128), "source": (n, 512)} for n in (1, 4, 8)]
    given = requested(
        "tensorrt", graph_sha256=SHA, ort_version="1", cache_dir=None, profile=(shapes[0], shapes[1], shapes[2])
    )[0][1]
    assert given["trt_profile_min_shapes"] == "target:1x3x128x128,source:1x512"
    assert given["trt_profile_opt_shapes"] == "target:4x3x128x128,source:4x512"
    assert given["trt_profile_max_shapes"] == "target:8x3x128x128,source:8x512"
    assert not any("profile" in option for option in options("tensorrt")[0][1])


def test_tensorrt_is_never_asked_to_record() -> None:
    """It would replay one recording for every batch size; and CUDA's provider refuses where it has not every node."""
    (_, tensorrt), (_, cuda), _ = options("tensorrt", captured=True)
    assert "trt_cuda_graph_enable" not in tensorrt
    assert cuda["enable_cuda_graph"] == "0"


def test_what_is_left_to_the_cpu_is_counted_by_kind() -> None:
    cpu = EXECUTION["cpu"]
    nodes = [(EXECUTION["cuda"], "Conv"), (cpu, "Shape"), (cpu, "Conv"), (EXECUTION["tensorrt"], "Mul"), (cpu, "Shape")]
    assert taken(nodes) == (2, {"Shape": 2, "Conv": 1})
    assert taken([(cpu, "Conv")]) == (0, {"Conv": 1})
    assert taken([]) == (0, {})


def test_a_gpu_that_leaves_any_of_the_work_to_the_cpu_falls_short() -> None:
    """Shapes are the CPU's; one convolution there sends its pictures to the host and back."""
    cpu, cuda = EXECUTION["cpu"], EXECUTION["cuda"]
    nodes = [(cuda, "Cast"), (cpu, "Shape"), (cpu, "FusedConv"), (cuda, "Gemm"), (cpu, "Gemm"), (cpu, "Gemm")]
    for provider in ("cuda", "tensorrt"):
        said = shortfall(provider, nodes)
        assert said == f"{provider} takes 2 of its 6 nodes and leaves 2 of 3 Gemm, 1 of 1 FusedConv to the CPU"
    assert shortfall("cuda", [(cuda, "Conv"), (cpu, "Shape"), (cpu, "Gather")]) == ""
    assert shortfall("tensorrt", [(EXECUTION["tensorrt"], "Conv"), (cuda, "MatMul")]) == ""
    assert shortfall("cuda", [(cpu, "Shape")]) == "cuda takes nothing of it, the CPU all 1 nodes"


def test_tensorrt_that_leaves_all_of_the_work_to_cuda_falls_short() -> None:
    tensorrt, cuda, cpu = (EXECUTION[name] for name in ("tensorrt", "cuda", "cpu"))
    nodes = [(tensorrt, "Cast"), (cuda, "Conv"), (cuda, "Conv"), (cuda, "Gemm"), (cpu, "Shape")]
    assert shortfall("tensorrt", nodes) == "tensorrt takes none of its 2 Conv, 1 Gemm, CUDAExecutionProvider does"
    assert shortfall("tensorrt", [*nodes, (tensorrt, "Conv")]) == ""
    assert shortfall("tensorrt", [(cuda, "Cast"), (cpu, "Shape")]) == ""


def test_coreml_may_leave_forms_that_it_does_not_know_but_not_all() -> None:
    cpu, coreml = EXECUTION["cpu"], EXECUTION["coreml"]
    assert shortfall("coreml", [(coreml, "Conv"), (cpu, "MatMul")]) == ""
    assert "leaves 1 of 1 Conv to the CPU" in shortfall("coreml", [(coreml, "Cast"), (cpu, "Conv")])
