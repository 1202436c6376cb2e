"""Turns `codeformer.pth` into an ONNX graph with the fidelity as an input, and proves that both compute the same.

Needs the `convert` extra (torch, onnx, onnxscript), once, on any machine; live sessions need only the graph.
"""

import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from schemas.errors import ModelRefused
from workers.models.codeformer import IMAGE_SIZE, CodeFormer

STATE_DICT = "params_ema"
"""Key of the state dict in the published checkpoint."""

_LARGEST_ERROR = 3e-4  # float32 on another back end, against float32 in torch; the codes must be equal for it
_PROBE_FIDELITIES = (0.0, 1.0)


class _Restoring(nn.Module):
    """The network as the graph has it: AdaIN on, as for restoring faces, and the picture as the only output."""

    def __init__(self, network: CodeFormer) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        restored: torch.Tensor = self.network(image, w).image
        return restored


def convert(pth: bytes, out: Path) -> float:
    """Write the graph of checkpoint `pth` to `out`, whole or not at all; returns the largest error that was seen.

    The graph takes `image` (faces, 3, 512, 512) float32 RGB in -1 … 1 and `w` () float32, and gives `restored`.
    Raises `ModelRefused` when the checkpoint is not CodeFormer's, holds code, or converts to something else.
    """
    network = load(pth)
    graph = export(network)
    error = largest_error(network, graph)
    if not error <= _LARGEST_ERROR:  # a NaN is no small error
        raise ModelRefused(f"the converted graph differs from the checkpoint by {error:.1e}; at most {_LARGEST_ERROR}")
    fresh = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with fresh.open("wb") as sink:
            sink.write(graph)
            sink.flush()
            os.fsync(sink.fileno())
        fresh.replace(out)
    finally:
        fresh.unlink(missing_ok=True)
    return error


def load(pth: bytes) -> CodeFormer:
    """Return the network with the weights in `pth`. Nothing in the file is executed; raises `ModelRefused`."""
    try:
        loaded = torch.load(io.BytesIO(pth), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # its text tells how to load the file all the same
        raise ModelRefused(
            "codeformer.pth is not a torch checkpoint of tensors alone: it is damaged or holds code, and is not loaded"
        ) from None
    except (RuntimeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise ModelRefused(f"codeformer.pth is not a torch checkpoint: {error}") from None
    if not isinstance(loaded, Mapping) or STATE_DICT not in loaded:
        raise ModelRefused(f"codeformer.pth has no {STATE_DICT!r}; expected the checkpoint of release v0.1.0")
    network = CodeFormer()
    _check_entries(network.state_dict(), loaded[STATE_DICT])
    network.load_state_dict(loaded[STATE_DICT], strict=True)
    return network.eval().requires_grad_(requires_grad=False)


def _check_entries(wanted: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    missing, unknown = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unknown:
        raise ModelRefused(
            f"codeformer.pth has {len(found)} entries, {len(missing)} of {len(wanted)} are missing "
            f"({', '.join(missing[:3]) or 'none'}), {len(unknown)} are unknown ({', '.join(unknown[:3]) or 'none'})"
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise ModelRefused(
                f"codeformer.pth: {name} is {found[name].dtype} {tuple(found[name].shape)}; "
                f"expected {tensor.dtype} {tuple(tensor.shape)}"
            )
        if not torch.isfinite(found[name]).all():
            raise ModelRefused(f"codeformer.pth: {name} is not finite")


def export(network: CodeFormer) -> bytes:
    """Return the ONNX graph of `network`, for any number of faces."""
    faces = torch.export.Dim("faces")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own use of torch
        program = torch.onnx.export(
            _Restoring(network).eval(),
            (torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE), torch.tensor(0.5)),
            input_names=["image", "w"],
            output_names=["restored"],
            dynamic_shapes={"image": {0: faces}, "w": None},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise ModelRefused("torch made no ONNX program")
    sink = io.BytesIO()
    program.save(sink)
    return sink.getvalue()


def largest_error(network: CodeFormer, graph: bytes) -> float:
    """Return the largest difference of the clipped pictures, at both ends of the fidelity, on a test picture."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    image = _probe()
    errors = []
    for fidelity in _PROBE_FIDELITIES:
        w = np.array(fidelity, np.float32)
        with torch.no_grad():
            wanted = network(torch.from_numpy(image), torch.from_numpy(w)).image.numpy()
        (made,) = session.run(["restored"], {"image": image, "w": w})
        errors.append(float(np.abs(np.clip(made, -1, 1) - np.clip(wanted, -1, 1)).max()))
    return float(np.max(errors))


def _probe() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return a picture (1, 3, 512, 512) with slow and fast changes in every channel."""
    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE] / IMAGE_SIZE
    channels = [np.sin(2 * np.pi * ((c + 1) * x + y)) * np.cos(40 * (x**2 + c * y**2)) for c in range(3)]
    return (0.8 * np.stack(channels)[None]).astype(np.float32)
