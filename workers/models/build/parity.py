"""How far two builds of a vendored file are apart, as numbers: bytes may differ where values do not."""

import io

import numpy as np
import onnxruntime as ort

_TRIALS = 3
_FREE_AXES = {"n": 2, "t": 160}  # sizes for the axes a graph leaves open


def _open(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def feed(graph: bytes, seed: int) -> dict[str, np.ndarray]:
    """Return uniform random inputs of that seed for ONNX bytes, by name."""
    random = np.random.default_rng(seed)
    return {
        given.name: random.random([_FREE_AXES.get(axis, axis) for axis in given.shape], np.float32)
        for given in _open(graph).get_inputs()
    }


def run(graph: bytes, seed: int) -> list[np.ndarray]:
    """Return the outputs of ONNX bytes for the inputs of that seed."""
    return [np.asarray(output) for output in _open(graph).run(None, feed(graph, seed))]


def difference(name: str, ours: bytes, theirs: bytes) -> float:
    """Return the largest absolute difference between two builds of file `name`; infinite where the shapes differ."""
    if name.endswith(".onnx"):
        pairs = [pair for seed in range(_TRIALS) for pair in zip(run(ours, seed), run(theirs, seed), strict=True)]
    else:
        pairs = list(zip(_arrays(ours), _arrays(theirs), strict=True))
    return max(float(np.abs(a - b).max()) if a.shape == b.shape else float("inf") for a, b in pairs)


def _arrays(file: bytes) -> list[np.ndarray]:
    loaded = np.load(io.BytesIO(file), allow_pickle=False)
    return [loaded] if isinstance(loaded, np.ndarray) else [loaded[key] for key in sorted(loaded.files)]
