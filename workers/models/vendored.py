"""The small models that ship with Mirage: read once, checked against their sha256, handed to ONNX Runtime as bytes.

`vendored/manifest.json` names each file's hash, licence and source; `vendored/NOTICE` carries the attributions;
`build/` holds the scripts that rebuild the files from registry packages.
"""

import hashlib
import io
import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import onnxruntime as ort

from schemas.errors import Misconfigured

_FOLDER = files("workers.models") / "vendored"


@cache
def _manifest() -> dict[str, dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = json.loads((_FOLDER / "manifest.json").read_text("utf-8"))["files"]
    return entries


def names() -> tuple[str, ...]:
    """Return the names of every vendored file."""
    return tuple(_manifest())


def read(name: str) -> bytes:
    """Return the verified bytes of vendored file `name`.

    Raises `Misconfigured` naming file and hashes when the file is missing or is not the one Mirage was built with.
    """
    expected = _manifest()[name]["sha256"]
    try:
        data = (_FOLDER / name).read_bytes()
    except FileNotFoundError:
        raise Misconfigured(f"vendored model {name} is missing; reinstall Mirage") from None
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise Misconfigured(f"vendored model {name} has sha256 {found}, expected {expected}; reinstall Mirage")
    return data


def arrays(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of a vendored `.npz` (by name) or `.npy` (under the key `array`). Pickles are refused."""
    loaded = np.load(io.BytesIO(read(name)), allow_pickle=False)
    return {"array": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}


def session(name: str) -> ort.InferenceSession:
    """Open vendored graph `name` on the CPU with one thread that does not spin.

    Two intra-op threads were two to three times slower under load on a small machine, and spinning threads starve the
    other workers of the same machine.
    """
    return cpu_session(read(name))


def cpu_session(graph: bytes) -> ort.InferenceSession:
    """Open ONNX bytes on the CPU, one thread, no spinning. Bytes, not a path: a path would follow external data."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
