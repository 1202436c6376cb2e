"""Chunks: the unit in which an archive is written, checked and recovered."""

import struct
import zlib
from collections.abc import Iterator

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import Chunk, Message, MessageIndex

from ops.archive.entry_codec import mirror, pack_entry
from ops.archive.layout import CHANNELS, MIRRORS, log_time, taken
from schemas.bus.base import Entry
from schemas.errors import CodecError

CHUNK_BYTES = 192 * 1024
"""A chunk is written when it holds this much: a kill costs at most so much that was read, never what was written."""

_RECORD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<BQHIQQ")
_INDEX = struct.Struct("<BQHI")
_INDEXED = struct.Struct("<QQ")


class ChunkBuilder:
    """Collects entries for one chunk. Pure."""

    def __init__(self) -> None:
        """Start empty."""
        self._messages = RecordBuilder()
        self._times: list[int] = []

    @property
    def size(self) -> int:
        """Bytes collected so far."""
        return self._messages.count

    def add(self, stream: str, entry: Entry) -> None:
        """Add an entry; entries of a stream come in the order of their IDs."""
        at = log_time(entry.id)
        self._times.append(at)
        Message(CHANNELS[stream], at, pack_entry(stream, entry), at, 0).write(self._messages)
        if stream in MIRRORS:
            Message(MIRRORS[stream], at, mirror(entry), at, 0).write(self._messages)

    def take(self) -> bytes:
        """Return the chunk with its message indexes, ready to be appended to an archive, and start the next one."""
        data = taken(self._messages)
        written = RecordBuilder()
        Chunk("", data, max(self._times), min(self._times), zlib.crc32(data), len(data)).write(written)
        written.write(index_of(data))
        self._times.clear()
        return taken(written)


def messages_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (channel, message) of each message in a chunk's content; raises `CodecError` as `index_of` does."""
    for offset, end, channel, _ in _headers(data):
        yield channel, data[offset + _MESSAGE.size : end]


def index_of(data: bytes) -> bytes:
    """Return the message index records that belong behind the chunk with this content.

    Raises `CodecError` for content that is no sequence of messages.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for offset, _, channel, at in _headers(data):
        found.setdefault(channel, []).append((at, offset))
    builder = RecordBuilder()
    for channel in sorted(found):
        MessageIndex(channel, found[channel]).write(builder)
    return taken(builder)


def times_in(index: bytes) -> dict[int, list[int]]:
    """Return the log times of each channel in what `index_of` returned."""
    return {channel: [at for at, _ in _INDEXED.iter_unpack(records)] for channel, records in _indexed(index)}


def channels_in(index: bytes) -> set[int]:
    """Return the channels in what `index_of` returned."""
    return {channel for channel, _ in _indexed(index)}


def _indexed(index: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset < len(index):
        _, _, channel, length = _INDEX.unpack_from(index, offset)
        offset += _INDEX.size
        yield channel, index[offset : offset + length]
        offset += length


def _headers(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (offset, end, channel, log time) of each message record."""
    offset = 0
    while offset < len(data):
        try:
            opcode, length, channel, _, at, _ = _MESSAGE.unpack_from(data, offset)
        except struct.error as error:
            raise CodecError(f"a chunk ends inside a message: {error}") from None
        end = offset + _RECORD.size + length
        if opcode != Opcode.MESSAGE or length < _MESSAGE.size - _RECORD.size or end > len(data):
            raise CodecError(f"a chunk holds record {opcode} of {length} bytes where a message was expected")
        yield offset, end, channel, at
        offset = end
