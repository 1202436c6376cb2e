"""Entries as messages of an archive, and back, to the byte."""

import json
from typing import Any

import msgspec
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from ops.archive.layout import log_time
from ops.archive.model import AUDIO_STREAMS, EVENT_STREAMS
from schemas.bus.base import Entry
from schemas.errors import CodecError
from schemas.events import EVENT
from schemas.ids import EntryId
from schemas.media import DATA, SAMPLE_RATE

_TAIL = 1000
"""Protobuf field of a media message that holds the ID and every field but the payload."""
_LAST_NS = 253_402_300_799_999_999_999  # the end of the year 9999: protobuf has no later time

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[str, dict[bytes, bytes]])
_events = msgspec.msgpack.Decoder(dict[str, Any])
_tails = msgspec.msgpack.Decoder(tuple[str, dict[bytes, bytes], int])


def pack_entry(stream: str, entry: Entry) -> bytes:
    """Return the message that holds `entry` of `stream`."""
    if stream in EVENT_STREAMS:
        return _encoder.encode((str(entry.id), dict(entry.fields)))
    names = list(entry.fields)
    place = names.index(DATA) if DATA in names else -1  # where the payload goes back to: fields keep their order
    rest = {name: value for name, value in entry.fields.items() if name != DATA}
    tail = _encoder.encode((str(entry.id), rest, place))
    message: CompressedImage | RawAudio
    if stream in AUDIO_STREAMS:
        message = RawAudio(format="pcm-s16", sample_rate=SAMPLE_RATE, number_of_channels=1)
    else:
        message = CompressedImage(format="jpeg", frame_id=stream)
    message.timestamp.FromNanoseconds(min(log_time(entry.id), _LAST_NS))
    message.data = entry.fields.get(DATA, b"")
    return bytes(message.SerializeToString()) + _varint(_TAIL << 3 | 2) + _varint(len(tail)) + tail


def unpack_entry(stream: str, data: bytes) -> Entry:
    """Return the entry that a message of `stream` holds; raises `CodecError` when it holds none."""
    try:
        if stream in EVENT_STREAMS:
            name, fields = _decoder.decode(data)
            return Entry(EntryId.parse(name), fields)
        message = (RawAudio if stream in AUDIO_STREAMS else CompressedImage).FromString(data)
        tail = next(field.data for field in UnknownFieldSet(message) if field.field_number == _TAIL)
        name, fields, place = _tails.decode(tail)
    except (msgspec.DecodeError, ValueError, DecodeError, StopIteration) as error:
        raise CodecError(f"a message of {stream} holds no entry: {error}") from None
    if place >= 0:
        pairs = list(fields.items())
        fields = dict([*pairs[:place], (DATA, message.data), *pairs[place:]])
    return Entry(EntryId.parse(name), fields)


def mirror(entry: Entry) -> bytes:
    """Return the event of `entry` as JSON, for people: its fields beside `id`, or `unreadable` with the reason.

    An event's own field `id` names an input; here it is called `input`, because `id` is the entry's.
    """
    shown: dict[str, Any] = {"id": str(entry.id)}
    try:
        event = _events.decode(entry.fields.get(EVENT, b""))
        shown |= {"input" if key == "id" else key: value for key, value in event.items()}
        return json.dumps(shown).encode()
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
        return json.dumps({"id": str(entry.id), "unreadable": str(error)}).encode()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
