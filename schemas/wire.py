"""The WebSocket protocol `mirage.v1`, as client and server share it: binary media messages, close codes, limits.

A binary message is one MessagePack array `[type, pts_us, seq, bytes]`; a text message is a JSON object with `type`.
"""

from enum import IntEnum
from typing import NamedTuple

import msgspec

from schemas.errors import CodecError, InputRejected

PROTOCOL = "mirage.v1"
"""The subprotocol that the server echoes."""
BEARER = "bearer."
"""Prefix of the subprotocol that carries a browser's token; never echoed."""

MAX_PTS_US = 1 << 53
"""Media times stay exact in a browser's numbers, and leave room for the timeline's offset in 64 bits."""
MAX_SEQ = 1 << 53
OVERHEAD_BYTES = 32
"""More than what the array costs around its payload: 1 + 1 + 9 + 9 + 5 bytes."""


class MediaType(IntEnum):
    """First element of a binary message."""

    VIDEO = 1  # a JPEG
    AUDIO = 2  # PCM16 little endian, mono, 16 kHz


class Close(IntEnum):
    """WebSocket close codes."""

    NORMAL = 1000
    TRANSPORT_LIMIT = 1009
    PROTOCOL = 4400
    TOKEN = 4401
    SCOPE = 4403
    NO_SESSION = 4404
    REPLACED = 4409
    ABANDONED = 4410
    RATE = 4429


class MediaMessage(NamedTuple):
    """One frame or piece of sound on the wire."""

    type: MediaType
    pts_us: int
    """Media time of the payload's start in microseconds; may be negative."""
    seq: int
    """The sender's counter, >= 0. An output carries the input's where that is known."""
    data: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[int, int, int, bytes])


def encode(message: MediaMessage) -> bytes:
    """Return the wire form of `message`."""
    return _encoder.encode((int(message.type), message.pts_us, message.seq, message.data))


def decode(raw: bytes, *, max_bytes: int) -> MediaMessage:
    """Read a binary message, whose payload may have at most `max_bytes`.

    Raises `InputRejected` (code `too_large`) for a payload over the limit, before it is looked at, and `CodecError`
    for anything that is not `[type, pts_us, seq, bytes]` with values in range.
    """
    if len(raw) > max_bytes + OVERHEAD_BYTES:
        raise InputRejected(f"message of {len(raw)} bytes; a payload may have {max_bytes}", code="too_large")
    try:
        kind, pts_us, seq, data = _decoder.decode(raw)
    except (msgspec.DecodeError, ValueError) as error:
        raise CodecError(f"not a [type, pts_us, seq, bytes] MessagePack array: {error}") from None
    if kind not in (MediaType.VIDEO, MediaType.AUDIO):
        raise CodecError(f"type {kind} is not known; 1 is a JPEG frame, 2 is PCM16 sound")
    if not -MAX_PTS_US <= pts_us <= MAX_PTS_US:
        raise CodecError(f"pts_us {pts_us} is out of range; expected at most 2^53 either side of 0")
    if not 0 <= seq <= MAX_SEQ:
        raise CodecError(f"seq {seq} is out of range; expected 0 to 2^53")
    if len(data) > max_bytes:
        raise InputRejected(f"payload of {len(data)} bytes; at most {max_bytes} are accepted", code="too_large")
    return MediaMessage(MediaType(kind), pts_us, seq, data)
