"""ONNX Runtime's execution providers as Mirage asks for them: names, order of preference and options. Pure."""

from pathlib import Path

CPU = "cpu"
EXECUTION = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    CPU: "CPUExecutionProvider",
}
"""Our name → ONNX Runtime's, in the order in which `auto` tries them."""

Requested = list[tuple[str, dict[str, str]]]


def requested(
    provider: str,
    *,
    graph_sha256: str,
    ort_version: str,
    cache_dir: Path | None,
    half: bool = False,
    captured: bool = False,
) -> Requested:
    """Return the providers and their options for one graph, most wanted first; the CPU last, for shape arithmetic.

    `half`: the graph has float16 weights, which TensorRT refuses to build without its flag. `captured`: record the
    run as a CUDA graph and replay it, which wants fixed buffers. A TensorRT engine is good for one graph, one ONNX
    Runtime and one GPU model: the first two are in its folder's name, TensorRT puts the third into its file's.
    """
    cpu: Requested = [(EXECUTION[CPU], {})]
    cuda: Requested = [
        (
            EXECUTION["cuda"],
            {
                "arena_extend_strategy": "kSameAsRequested",  # doubling wastes up to half of a shared GPU
                "cudnn_conv_algo_search": "EXHAUSTIVE",  # once, at warm-up; shapes do not change after it
                "enable_cuda_graph": _flag(on=captured),
            },
        )
    ]
    match provider:
        case "tensorrt":
            options = {
                "trt_fp16_enable": _flag(on=half),
                "trt_cuda_graph_enable": _flag(on=captured),
                "trt_engine_cache_enable": _flag(on=cache_dir is not None),
                "trt_timing_cache_enable": _flag(on=cache_dir is not None),
            }
            if cache_dir is not None:
                folder = engine_folder(cache_dir, graph_sha256=graph_sha256, ort_version=ort_version)
                options["trt_engine_cache_path"] = options["trt_timing_cache_path"] = str(folder)
            return [(EXECUTION["tensorrt"], options), *cuda, *cpu]
        case "cuda":
            return [*cuda, *cpu]
        case "coreml":
            return [(EXECUTION["coreml"], {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"}), *cpu]
        case _:
            return cpu


def engine_folder(cache_dir: Path, *, graph_sha256: str, ort_version: str) -> Path:
    """Return where TensorRT keeps the engines of one graph under one ONNX Runtime."""
    return cache_dir / "tensorrt" / f"ort-{ort_version}" / graph_sha256[:16]


def _flag(*, on: bool) -> str:
    return "1" if on else "0"
