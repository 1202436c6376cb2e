"""The layout of an archive, format 1: a plain MCAP file that Foxglove opens, and from which every entry comes back.

    magic, Header(profile "mirage"), Metadata "mirage", Schemas, Channels      the head: written once, never moved
    Chunk, MessageIndex…, Chunk, MessageIndex…, …                              uncompressed, CRC-checked, appended
    DataEnd, summary (Schemas, Channels, Statistics, ChunkIndexes, …), Footer  when the session is over

A recorder keeps events (channels 1-3 and 8-10) and media (4-7) in chunks of their own; a reader expects no such thing.

| channel | topic | one message is |
|---|---|---|
| 1-3 | `/metrics`, `/policy`, `/control` | one entry: MessagePack `[id, {field: bytes}]`; `e` is the canonical event |
| 4-5 | `/video/in`, `/video/out` | one entry: `foxglove.CompressedImage`, JPEG |
| 6-7 | `/audio/in`, `/audio/out` | one entry: `foxglove.RawAudio`, PCM16 mono 16 kHz |
| 8-10 | `/metrics/json`, … | the event of the entry before it, as JSON, for people; never read back |

A media message carries what its schema has no place for (ID, header, outcome) in one more protobuf field, number 1000,
which readers that do not know it pass over: so one message is one entry, and neither can be lost without the other.
`log_time` is the entry ID, in nanoseconds: `ms x 1,000,000 + n`; the exact ID is in the message.
"""

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, Header, Metadata, Schema

from ops.archive.model import AUDIO_STREAMS, EVENT_STREAMS, STREAMS, VIDEO_STREAMS, NewerArchive
from schemas.errors import CodecError
from schemas.ids import EntryId
from schemas.message import Family, as_json, encode
from schemas.session_store import SessionRecord

FORMAT = 1
MAGIC = b"\x89MCAP0\r\n"
PROFILE = METADATA = "mirage"
CHANNELS = {stream: number for number, stream in enumerate(STREAMS, 1)}
STREAM_OF = {number: stream for stream, number in CHANNELS.items()}
MIRRORS = {stream: number for number, stream in enumerate(EVENT_STREAMS, len(STREAMS) + 1)}

_MOST_N = 999_999
_records: Family[SessionRecord] = Family(SessionRecord)


@dataclass(frozen=True, slots=True)
class About:
    """What the head of an archive says of the session in it."""

    sid: str
    record: SessionRecord | None
    streams: tuple[str, ...] = STREAMS
    """The streams that were to be recorded; the others were left out on purpose."""
    problems: tuple[str, ...] = ()
    """What was damaged or missing in the session that this is a copy of."""


def log_time(entry_id: EntryId) -> int:
    """Return an entry's time in nanoseconds since the epoch; beyond a million entries a millisecond it stands still."""
    return min(entry_id.ms * 1_000_000 + min(entry_id.n, _MOST_N), 2**64 - 1)


def head(about: About) -> bytes:
    """Return the bytes that an archive starts with."""
    builder = RecordBuilder()
    builder.write(MAGIC)
    Header(PROFILE, f"mirage {version('mirage')}").write(builder)
    metadata(about).write(builder)
    for record in (*schemas(), *channels()):
        record.write(builder)
    return taken(builder)


def taken(builder: RecordBuilder) -> bytes:
    """Return what a builder holds, and empty it."""
    return bytes(builder.end())  # type: ignore[no-untyped-call] # the library does not say so


def metadata(about: About) -> Metadata:
    """Return the record that describes the session, with a checksum: MCAP has none for it."""
    fields = {
        "format": str(FORMAT),
        "mirage": version("mirage"),
        "sid": about.sid,
        "streams": " ".join(about.streams),
        "problems": "\n".join(about.problems),
        "record": "" if about.record is None else base64.b64encode(encode(about.record)).decode(),
        "record_json": "" if about.record is None else json.dumps(as_json(about.record)),
    }
    return Metadata(METADATA, fields | {"crc32": str(_checksum(fields))})


def read_metadata(fields: Mapping[str, str]) -> About | None:
    """Return what a metadata record says; None when it is damaged.

    Raises `NewerArchive` for a format that this build does not know.
    """
    said = dict(fields)
    if said.pop("crc32", None) != str(_checksum(said)):
        return None
    if said.get("format") != str(FORMAT):
        raise NewerArchive(
            f"the archive has format {said.get('format')} (mirage {said.get('mirage')}); this build reads {FORMAT}"
        )
    try:
        record = _records.decode(base64.b64decode(said["record"])) if said["record"] else None
    except CodecError as error:
        raise NewerArchive(f"the session record in the archive is of another build: {error}") from None
    return About(said["sid"], record, tuple(said["streams"].split()), tuple(said["problems"].splitlines()))


def _checksum(fields: Mapping[str, str]) -> int:
    return zlib.crc32(repr(sorted(fields.items())).encode())


def schemas() -> list[Schema]:
    """Return the schemas, IDs 1 to 3."""
    return [
        Schema(1, _descriptors(CompressedImage.DESCRIPTOR.file), "protobuf", "foxglove.CompressedImage"),
        Schema(2, _descriptors(RawAudio.DESCRIPTOR.file), "protobuf", "foxglove.RawAudio"),
        Schema(3, json.dumps(_MIRROR_SCHEMA).encode(), "jsonschema", "mirage.Event"),
    ]


def channels() -> list[Channel]:
    """Return the channels; their numbers are part of the format."""
    entries = [
        Channel(CHANNELS[stream], topic(stream), encoding, {"stream": stream}, schema)
        for streams, encoding, schema in (
            (EVENT_STREAMS, "msgpack", 0),
            (VIDEO_STREAMS, "protobuf", 1),
            (AUDIO_STREAMS, "protobuf", 2),
        )
        for stream in streams
    ]
    return entries + [Channel(number, f"{topic(stream)}/json", "json", {}, 3) for stream, number in MIRRORS.items()]


def topic(stream: str) -> str:
    """Return a stream's topic: `video:in` is `/video/in`."""
    return "/" + stream.replace(":", "/")


_MIRROR_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "entry ID"},
        "t": {"type": "string", "description": "type of the event"},
    },
}


def _descriptors(file: FileDescriptor) -> bytes:
    """Return the serialised descriptors of a file and of all that it imports, imports first."""
    found: dict[str, FileDescriptor] = {}

    def visit(item: FileDescriptor) -> None:
        for needed in item.dependencies:
            visit(needed)
        found[item.name] = item

    visit(file)
    described = FileDescriptorSet()
    for item in found.values():
        item.CopyToProto(described.file.add())
    return bytes(described.SerializeToString())
