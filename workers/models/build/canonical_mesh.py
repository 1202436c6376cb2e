"""MediaPipe's canonical face: vertices, texture coordinates and triangles, read from its geometry metadata.

The file is a protobuf message (`face_geometry/protos/geometry_pipeline_metadata.proto`, `mesh_3d.proto`); the six
fields of interest are read by number, which spares a protobuf compiler.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np

from workers.models.build.sources import RebuildError

_VARINT, _BYTES, _FIXED32 = 0, 2, 5  # protobuf wire types
_MESH, _BASIS = 1, 2  # GeometryPipelineMetadata: canonical_mesh, procrustes_landmark_basis (repeated)
_BASIS_LANDMARK, _BASIS_WEIGHT = 1, 2  # WeightedLandmarkRef
_VERTEX_BUFFER, _INDEX_BUFFER = 3, 4  # Mesh3d; neither is packed
_VERTEX = 5  # floats a vertex: x, y, z in cm, then u, v in 0..1


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, value) of one protobuf message: an int for a varint, raw bytes for the rest."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire == _FIXED32:
            size = 4
        else:
            raise RebuildError(f"protobuf wire type {wire} is not expected in this file")
        yield number, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _float(value: int | bytes) -> float:
    if isinstance(value, int):
        raise RebuildError("a float field holds a varint")
    (number,) = struct.unpack("<f", value)
    return float(number)


def arrays(metadata: bytes) -> dict[str, np.ndarray]:
    """Return the mesh of a `geometry_pipeline_metadata_landmarks.binarypb`.

    `xyz` (468, 3) cm, `uv` (468, 2), `tri` (898, 3) vertex indices, and the landmarks a rigid pose is fitted to:
    `basis_id` (33,) with weights `basis_w` (33,).
    """
    mesh: list[tuple[int, int | bytes]] = []
    basis: list[dict[int, int | bytes]] = []
    for number, value in fields(metadata):
        if number == _MESH and isinstance(value, bytes):
            mesh = list(fields(value))
        elif number == _BASIS and isinstance(value, bytes):
            basis.append(dict(fields(value)))
    vertices = np.array([_float(v) for n, v in mesh if n == _VERTEX_BUFFER], np.float32).reshape(-1, _VERTEX)
    triangles = np.array([v for n, v in mesh if n == _INDEX_BUFFER], np.int32).reshape(-1, 3)
    return {
        "xyz": vertices[:, :3],
        "uv": vertices[:, 3:],
        "tri": triangles,
        "basis_id": np.array([entry.get(_BASIS_LANDMARK, 0) for entry in basis], np.int64),
        "basis_w": np.array([_float(entry[_BASIS_WEIGHT]) for entry in basis], np.float32),
    }


def to_npz(metadata: bytes) -> bytes:
    """Return `arrays` as the bytes of an uncompressed `.npz`."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays(metadata))
    return file.getvalue()
