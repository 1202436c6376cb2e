"""Templates of the neural engine: which voice file speaks, how high it speaks, and (if asked for) what it said.

A voice's timbre lies in its synthesiser file; ten seconds of reference cannot give it. So a template binds an identity
to one such file by its sha256, and adds what the reference does give: the mean of log F0 that a speaker is moved to,
and on request an index of content features for retrieval. With another file the template is refused. The consent of
the person must therefore cover the file too: whoever revokes the identity silences its sessions at once, but the file
stays with whoever installed it.
"""

import json
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import CodecError
from workers.voice.neural.content import CHANNELS

_HEADER = struct.Struct("<4sHxxII")  # magic, version, CRC-32 of what follows, bytes of the JSON part
_MAGIC, _VERSION = b"MNVT", 1
_LOG_F0 = (np.log(40.0), np.log(1200.0))


@dataclass(frozen=True, slots=True)
class NeuralVoiceTemplate:
    """An enrolled voice."""

    voice: str
    sha256: str
    """Of the synthesiser file, 64 hexadecimal digits."""
    log_f0: float
    """Mean of the natural log of the target's F0 in Hz."""
    features: NDArray[np.float16] | None = None
    """(rows, 768) content features of the reference, or none."""

    def __post_init__(self) -> None:
        """Check the fields. Raises `CodecError`."""
        if len(self.sha256) != 64 or not set(self.sha256) <= set("0123456789abcdef"):
            raise CodecError("voice template names no sha256 of a synthesiser")
        if not _LOG_F0[0] <= self.log_f0 <= _LOG_F0[1]:
            raise CodecError(f"voice template has a mean log F0 of {self.log_f0}; a voice lies between 40 and 1200 Hz")
        if self.features is not None and (
            self.features.shape[1:] != (CHANNELS,) or not len(self.features) or not np.isfinite(self.features).all()
        ):
            raise CodecError(f"voice template has features {self.features.shape}; finite (rows, {CHANNELS}) are needed")


def encode(template: NeuralVoiceTemplate) -> bytes:
    """Return the template as bytes."""
    note = {"voice": template.voice, "sha256": template.sha256, "log_f0": template.log_f0}
    words = json.dumps(note, sort_keys=True).encode()
    rows = b"" if template.features is None else np.asarray(template.features, "<f2").tobytes()
    body = words + rows
    return _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(body), len(words)) + body


def decode(data: bytes) -> NeuralVoiceTemplate:
    """Return the template of bytes. Raises `CodecError` for bytes that are not one."""
    if len(data) < _HEADER.size or data[: len(_MAGIC)] != _MAGIC:
        raise CodecError("not a voice template of the neural engine")
    _, version, checksum, length = _HEADER.unpack_from(data)
    if version != _VERSION:
        raise CodecError(f"voice template version {version}; this build reads {_VERSION}: enrol the voice again")
    body = data[_HEADER.size :]
    rows = len(body) - length
    if zlib.crc32(body) != checksum or rows < 0 or rows % (2 * CHANNELS):
        raise CodecError("voice template is damaged: its length or checksum is wrong")
    try:
        note = json.loads(body[:length])
        voice, sha256, log_f0 = str(note["voice"]), str(note["sha256"]), float(note["log_f0"])
    except (ValueError, TypeError, KeyError) as error:
        raise CodecError(f"voice template cannot be read: {error!r}") from error
    features = np.frombuffer(body[length:], "<f2").reshape(-1, CHANNELS) if rows else None
    return NeuralVoiceTemplate(voice, sha256, log_f0, features)
