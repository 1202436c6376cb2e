"""ONNX Runtime's execution providers as Mirage asks for them: names, order of preference and options. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
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
Profile = tuple[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]]
"""Shapes of every input by name: the least, those to be quickest at, and the largest."""
_HEAVY = ("Conv", "MatMul", "Gemm")
"""In the names of the kinds of nodes that an accelerator is there for, fused and quantised ones too."""


def requested(
    provider: str,
    *,
    graph_sha256: str,
    ort_version: str,
    cache_dir: Path | None,
    half: bool = False,
    captured: bool = False,
    profile: Profile | None = None,
) -> Requested:
    """Return the providers and their options for one graph, most wanted first; the CPU last, for shape arithmetic.

    `half`: the graph has float16 weights, which TensorRT refuses to build without its flag. `captured`: record runs as
    CUDA graphs and replay them, which wants fixed buffers; only CUDA's provider is asked to, for TensorRT's keeps one
    recording a session and replays it for every run, whatever its shape, buffers and number. `profile`: for TensorRT,
    which builds its engine anew whenever a shape comes that is beyond those it has seen. A TensorRT engine is good
    for one graph, one ONNX Runtime and one GPU model: the first two are in its folder's name, TensorRT puts the third
    into its file's.
    """
    cpu: Requested = [(EXECUTION[CPU], {})]
    cuda: Requested = [
        (
            EXECUTION["cuda"],
            {
                "arena_extend_strategy": "kSameAsRequested",  # doubling wastes up to half of a shared GPU
                "cudnn_conv_algo_search": "EXHAUSTIVE",  # once, at warm-up; shapes do not change after it
                "enable_cuda_graph": _flag(on=captured and provider == "cuda"),
            },
        )
    ]
    match provider:
        case "tensorrt":
            options = {
                "trt_fp16_enable": _flag(on=half),
                "trt_engine_cache_enable": _flag(on=cache_dir is not None),
                "trt_timing_cache_enable": _flag(on=cache_dir is not None),
            }
            if profile is not None:
                for name, shapes in zip(("min", "opt", "max"), profile, strict=True):
                    options[f"trt_profile_{name}_shapes"] = ",".join(
                        f"{given}:{'x'.join(map(str, shape))}" for given, shape in shapes.items()
                    )
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


def taken(assigned: Iterable[tuple[str, str]]) -> tuple[int, dict[str, int]]:
    """Return how many of a graph's nodes run on an accelerator, and how many of each kind are left to the CPU.

    `assigned`: ONNX Runtime's name of the provider and type of each node.
    """
    left: Counter[str] = Counter()
    count = 0
    for execution, kind in assigned:
        if execution == EXECUTION[CPU]:
            left[kind] += 1
        else:
            count += 1
    return count, dict(left.most_common())


def shortfall(provider: str, assigned: Iterable[tuple[str, str]]) -> str:
    """Return what `provider` left to others that it was chosen for, or "" where it does its work; `assigned` as above.

    On a GPU no convolution and no matrix product may be left: each would copy its pictures there and back. CoreML takes
    fewer forms of them, so there only a graph of which it takes none is idle. TensorRT may share them with CUDA's
    provider, and must take one.
    """
    nodes = list(assigned)
    count, left = taken(nodes)
    if left and not count:
        return f"{provider} takes nothing of it, the CPU all {len(nodes)} nodes"
    heavy = [(execution, kind) for execution, kind in nodes if any(name in kind for name in _HEAVY)]
    idle = Counter(kind for execution, kind in heavy if execution == EXECUTION[CPU])
    of = Counter(kind for _, kind in heavy)
    if not idle or (provider == "coreml" and idle.total() < len(heavy)):
        if not heavy or any(execution == EXECUTION[provider] for execution, _ in heavy):
            return ""
        counts = ", ".join(f"{number} {kind}" for kind, number in of.most_common())
        return f"{provider} takes none of its {counts}, {', '.join(sorted({name for name, _ in heavy}))} does"
    counts = ", ".join(f"{number} of {of[kind]} {kind}" for kind, number in idle.most_common())
    return f"{provider} takes {count} of its {len(nodes)} nodes and leaves {counts} to the CPU"


def engine_folder(cache_dir: Path, *, graph_sha256: str, ort_version: str) -> Path:
    """Return where TensorRT keeps the engines of one graph under one ONNX Runtime."""
    return cache_dir / "tensorrt" / f"ort-{ort_version}" / graph_sha256[:16]


def _flag(*, on: bool) -> str:
    return "1" if on else "0"
