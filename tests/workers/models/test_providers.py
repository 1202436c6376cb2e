"""What is asked of ONNX Runtime, for providers that this machine may not have."""

from pathlib import Path

import pytest

from workers.models.providers import EXECUTION, Requested, engine_folder, requested

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
    tensorrt, cuda, _ = options("tensorrt", half=on, captured=on)
    expected = "1" if on else "0"
    assert tensorrt[1]["trt_fp16_enable"] == expected
    assert tensorrt[1]["trt_cuda_graph_enable"] == expected
    assert cuda[1]["enable_cuda_graph"] == expected
