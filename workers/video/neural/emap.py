"""The matrix that turns an embedding into InSwapper's latent. It travels in the graph file, used by none of its nodes.

ONNX Runtime drops what no node uses, so it is read from the file's own bytes: a walk along the protobuf fields of
`onnx.proto` down to the initialisers. Nothing else is decoded, and the half gigabyte of weights is not copied.
"""

import numpy as np

from schemas.errors import ModelRefused
from workers.models.protobuf import Malformed, fields, varints
from workers.video.neural.contracts import EMBEDDING
from workers.video.pixels import Float

_GRAPH, _INITIALISER = 7, 5
_DIMS, _DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA = 1, 2, 4, 8, 9
_DTYPES = {1: "<f4", 10: "<f2"}
_USUAL_NAME = "buff2fs"


def read_emap(graph: bytes, *, label: str) -> Float:
    """Return the (512, 512) matrix of an InSwapper `graph` (ONNX): the initialiser of its usual name, or the last.

    Raises `ModelRefused` naming `label` where there is none of that shape.
    """
    try:
        found = _initialisers(graph)
        usual = [tensor for name, tensor in found if name == _USUAL_NAME]
        matrix = _matrix((usual or [tensor for _, tensor in found])[-1]) if found else None
    except Malformed as error:
        raise ModelRefused(f"{label} is not an ONNX file: {error}") from None
    if matrix is None or not np.isfinite(matrix).all() or not matrix.any():
        raise ModelRefused(
            f"{label} is not an InSwapper: its last initialiser must be the {EMBEDDING}x{EMBEDDING} matrix that maps "
            "embeddings to latents; an optimiser may have dropped it, take the original file"
        )
    return matrix


def _initialisers(graph: bytes) -> list[tuple[str, memoryview]]:
    """Return (name, tensor) of every initialiser, in the file's order."""
    return [
        (next((part.text for part in fields(field.data) if part.number == _NAME), ""), field.data)
        for model in fields(graph)
        if model.number == _GRAPH
        for field in fields(model.data)
        if field.number == _INITIALISER
    ]


def _matrix(tensor: memoryview) -> Float | None:
    """Return the tensor as float32 if it is a 512x512 matrix of floats, else None."""
    dims: list[int] = []
    dtype, data = "", memoryview(b"")
    for field in fields(tensor):
        match field.number:
            case n if n == _DIMS:
                dims += [field.value] if isinstance(field.value, int) else varints(field.data)
            case n if n == _DATA_TYPE:
                dtype = _DTYPES.get(field.integer, "")
            case n if n == _RAW_DATA:
                data = field.data
            case n if n == _FLOAT_DATA and not isinstance(field.value, int):
                data = field.value  # packed, as every writer has it
    if dims != [EMBEDDING, EMBEDDING] or not dtype or len(data) != EMBEDDING * EMBEDDING * np.dtype(dtype).itemsize:
        return None
    return np.frombuffer(data, dtype).reshape(EMBEDDING, EMBEDDING).astype(np.float32)
