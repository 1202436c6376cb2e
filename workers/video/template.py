"""The identity template of the embedded engine: one face picture and its mesh, as versioned MessagePack. No pickles.

The picture travels as lossless PNG, the mesh as little-endian float32. Everything else (skin likelihood, smaller
copies) is derived when a session opens, so a template stays valid when that derivation improves. A digest tells damage
from content: a PNG decoder fills what it cannot read with whatever it has.
"""

import hashlib
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np

from schemas.errors import InputRejected
from workers.video.engine import Frame
from workers.video.pixels import Float
from workers.video.topology import MESH_VERTICES

FORMAT = "mirage.face.embedded"
VERSION = 1
MAX_BYTES = 2 * 1024 * 1024
MIN_SIDE, MAX_SIDE = 64, 512
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class _Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    version: int
    picture: bytes
    points: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, eq=False)
class FaceTemplate:
    """A face to wear."""

    picture: Frame  # (S, S, 3) BGR, MIN_SIDE <= S <= MAX_SIDE, the face upright
    points: Float  # (468, 2) px in the picture


def encode(template: FaceTemplate) -> bytes:
    """Return `template` as bytes."""
    written, png = cv2.imencode(".png", template.picture)
    if not written:
        raise ValueError("the face picture could not be written as PNG")
    points = template.points.astype("<f4").tobytes()
    picture = png.tobytes()
    return msgspec.msgpack.encode(_Wire(FORMAT, VERSION, picture, points, content_digest(picture, points)))


def content_digest(picture: bytes, points: bytes) -> bytes:
    """Return the 16 bytes that tell a damaged template from a whole one."""
    return hashlib.blake2b(picture + points, digest_size=16).digest()


def decode(blob: bytes) -> FaceTemplate:
    """Return the template in `blob`. Raises `InputRejected` (`template_invalid`) saying what is wrong with it."""
    if len(blob) > MAX_BYTES:
        raise _invalid(f"it has {len(blob)} bytes, at most {MAX_BYTES} are accepted")
    try:
        wire = msgspec.msgpack.decode(blob, type=_Wire)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _invalid(f"it is not a template of the embedded engine ({error})") from error
    if wire.format != FORMAT:
        raise _invalid(f"its format is {wire.format!r}, the embedded engine reads {FORMAT!r}")
    if wire.version != VERSION:
        raise _invalid(f"its version is {wire.version}, this build reads {VERSION}; enrol the portrait again")
    if wire.digest != content_digest(wire.picture, wire.points):
        raise _invalid("it is damaged; enrol the portrait again")
    points = np.frombuffer(wire.points, "<f4") if len(wire.points) == MESH_VERTICES * 8 else np.zeros(0, "<f4")
    if not points.size or not np.isfinite(points).all():
        raise _invalid(f"its mesh is not {MESH_VERTICES} finite points")
    picture = _decode_picture(wire.picture)
    if np.abs(points).max() > 2 * picture.shape[0]:
        raise _invalid("its mesh lies outside its picture")
    return FaceTemplate(picture, points.reshape(MESH_VERTICES, 2).astype(np.float32))


def _decode_picture(png: bytes) -> Frame:
    """Decode a square PNG, whose header is checked first: no size is believed before it is known to be small."""
    header = png[:24]
    if len(header) < 24 or not header.startswith(_PNG_SIGNATURE) or header[12:16] != b"IHDR":
        raise _invalid("its picture is not a PNG")
    width, height = int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
    if width != height or not MIN_SIDE <= width <= MAX_SIDE:
        raise _invalid(f"its picture is {width}x{height}, accepted are squares of {MIN_SIDE} to {MAX_SIDE}")
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (height, width, 3):
        raise _invalid("its picture cannot be decoded")
    return picture.astype(np.uint8, copy=False)


def _invalid(detail: str) -> InputRejected:
    return InputRejected(f"this identity template cannot be used: {detail}", code="template_invalid")
