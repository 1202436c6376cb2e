"""The synthetic weights and the picture that the stored vectors were computed with.

The vectors (`codeformer_parity.npz`), the table of entries and the checksums are facts about the published network:
the reference ran once on these weights. None of the published weights are here.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
_GAINS = {
    ".in_proj_weight": 1.5,
    ".out_proj.weight": 0.3,
    ".q.weight": 1.5,
    ".k.weight": 1.5,
    ".scale.2.weight": 0.1,
    "generator.blocks.24.weight": 0.15,
}


def table() -> list[dict[str, Any]]:
    """Return name, shape and dtype of every entry of the checkpoint, in its order."""
    entries: list[dict[str, Any]] = json.loads((HERE / "codeformer_state_dict.json").read_text("utf-8"))["entries"]
    return entries


def checksums() -> dict[str, Any]:
    """Return the first 16 hex digits of the SHA-256 of what the recipe makes."""
    found: dict[str, Any] = json.loads((HERE / "codeformer_fill_check.json").read_text("utf-8"))
    return found


def vectors() -> dict[str, NDArray[Any]]:
    """Return the stored outputs, codes, logits and traces."""
    with np.load(HERE / "codeformer_parity.npz", allow_pickle=False) as stored:
        return dict(stored)


def weights() -> dict[str, NDArray[np.float32]]:
    """Return a value for every entry; uniform, with a spread that keeps activations alive through the layers."""
    return {entry["name"]: _fill(entry["name"], tuple(entry["shape"])) for entry in table()}


def _fill(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    raw = np.random.PCG64(seed).random_raw(math.prod(shape))
    uniform = (2 * (raw >> np.uint64(40)).astype(np.float64) + 1) / 2**24 - 1
    offset, spread = _spread(name, shape)
    return (offset + spread * uniform).astype(np.float32).reshape(shape)


def _spread(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    if name in ("position_emb", "quantize.embedding.weight"):
        return 0.0, math.sqrt(3)
    if len(shape) > 1:
        gain = next((gain for ending, gain in _GAINS.items() if name.endswith(ending)), 1.0)
        return 0.0, gain * math.sqrt(3 / math.prod(shape[1:]))
    return (1.0, 0.1 * math.sqrt(3)) if name.endswith("weight") else (0.0, 0.05 * math.sqrt(3))


def picture() -> NDArray[np.float32]:
    """Return the test picture, (1, 3, 512, 512) RGB in -1 … 1."""
    y, x = np.mgrid[0:512, 0:512].astype(np.float64)
    turn = 2 * math.pi
    channels = [
        0.45 * np.sin(turn * ((c + 1) * x + 2 * y) / 512 + 1.5)
        + 0.30 * np.cos(turn * ((c + 2) * x**2 + 3 * y**2) / 32768 + 0.2)
        + 0.20 * np.sin(turn * x * y / (512 * (7 + c)) + 0.3)
        for c in range(3)
    ]
    levels = np.floor(127.5 * (np.stack(channels) + 1) + 0.5)
    return (levels / 127.5 - 1).astype(np.float32)[None]
