"""The identity template of the neural engine: embedding and latent, as versioned MessagePack. No pickles.

The latent is the embedding seen through one swapper's matrix. It is stored with a digest of that matrix: a template
that was made with another swapper file is read all the same, and its latent made anew from the embedding.
"""

import hashlib
from dataclasses import dataclass

import msgspec
import numpy as np

from schemas.errors import InputRejected
from workers.video.neural.contracts import EMBEDDING
from workers.video.pixels import Float

FORMAT = "mirage.face.neural"
VERSION = 1
MAX_BYTES = 16 * 1024
_UNIT = 1e-3  # how far from 1 a length may be


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    embedding: bytes
    latent: bytes
    emap: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class NeuralTemplate:
    """Who to wear."""

    embedding: Float  # (512,) unit length
    latent: Float  # (512,) unit length
    emap: bytes  # 16 bytes that tell which matrix made the latent


def emap_digest(emap: Float) -> bytes:
    """Return the 16 bytes that tell one swapper's matrix (512, 512) from another."""
    return hashlib.blake2b(emap.astype("<f4").tobytes(), digest_size=16).digest()


def encode(template: NeuralTemplate) -> bytes:
    """Return `template` as bytes."""
    embedding, latent = (values.astype("<f4").tobytes() for values in (template.embedding, template.latent))
    digest = _digest(embedding, latent, template.emap)
    return msgspec.msgpack.encode(_Wire(FORMAT, VERSION, embedding, latent, template.emap, digest))


def decode(blob: bytes) -> NeuralTemplate:
    """Return the template in `blob`. Raises `InputRejected` (`template_invalid`) saying what is wrong with it."""
    if len(blob) > MAX_BYTES:
        raise _invalid(f"it has {len(blob)} bytes, at most {MAX_BYTES} are accepted")
    try:
        wire = msgspec.msgpack.decode(blob, type=_Wire)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"it is not a template of the neural engine ({error})") from error
    if wire.format != FORMAT:
        raise _invalid(f"its format is {wire.format!r}, the neural engine reads {FORMAT!r}")
    if wire.version != VERSION:
        raise _invalid(f"its version is {wire.version}, this build reads {VERSION}; enrol the portrait again")
    if wire.digest != _digest(wire.embedding, wire.latent, wire.emap):
        raise _invalid("it is damaged; enrol the portrait again")
    return NeuralTemplate(_unit(wire.embedding, "embedding"), _unit(wire.latent, "latent"), wire.emap)


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def _unit(data: bytes, what: str) -> Float:
    values = np.frombuffer(data, "<f4").astype(np.float32) if len(data) == 4 * EMBEDDING else np.zeros(1, np.float32)
    if len(values) != EMBEDDING or not abs(float(np.linalg.norm(values)) - 1) < _UNIT:
        raise _invalid(f"its {what} is not {EMBEDDING} numbers of unit length")
    return values


def _invalid(detail: str) -> InputRejected:
    return InputRejected(f"this identity template cannot be used: {detail}", code="template_invalid")
