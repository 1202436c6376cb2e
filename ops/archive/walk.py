"""Finds what is intact in an archive: finished, still being written, cut off, or damaged.

| found | what follows |
|---|---|
| a record that is whole and consistent | it counts |
| a chunk whose checksum does not match | it is left out, and said |
| anything else | the next chunk that is whole, by its checksum, is looked for; what lies between is said |
| nothing whole any more | the tail: where a recorder goes on writing |

So one damaged place costs at most one chunk. The index at the end is never needed.
"""

import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO

from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Header, McapRecord, Metadata, Schema

from ops.archive.chunk import index_of
from ops.archive.layout import MAGIC, METADATA
from schemas.errors import CodecError

_RECORD = struct.Struct("<BQ")
_CHUNK = struct.Struct("<BQQQQIIQ")  # opcode, length, start, end, uncompressed size, CRC, length of "", data length
_CHUNK_REST = _CHUNK.size - _RECORD.size
_INDEX = struct.Struct("<BQHI")
_FOOTER = struct.Struct("<BQQQI")
_LANDMARK = re.compile(rb"\x06.{36}\x00{4}|\x0c.{8}\x06\x00{3}" + METADATA.encode(), re.DOTALL)
"""How a chunk starts, and the metadata record of the head."""
_WINDOW = 4 * 1024 * 1024
_MOST_HEAD = 1 << 20  # bytes that a record of the head may have

_HEAD_RECORDS: dict[int, Callable[[ReadDataStream], McapRecord]] = {
    Opcode.HEADER: Header.read,
    Opcode.METADATA: Metadata.read,
    Opcode.SCHEMA: Schema.read,
    Opcode.CHANNEL: Channel.read,
}


class FileBytes:
    """A file as bytes by offset, as long as it was at first. Not mapped: a file may be cut while it is read."""

    def __init__(self, descriptor: int) -> None:
        """Read through `descriptor`, which stays the caller's."""
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def at(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes: fewer at the end."""
        return os.pread(self._descriptor, max(0, min(length, self.size - offset)), offset)


@dataclass(slots=True)
class ChunkSpan:
    """Where one chunk lies, and what its header says."""

    start: int
    data_start: int
    end: int
    start_time: int
    end_time: int
    crc: int
    indexes: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Channel → (offset of its message index, messages); empty where they are not all whole."""
    content: bytes = b""
    """The message indexes as the content says they should be; only where every chunk was read."""
    group_end: int = 0
    """End of the last message index."""

    @property
    def size(self) -> int:
        """Bytes of content."""
        return self.end - self.data_start


@dataclass(slots=True)
class Walk:
    """What an archive consists of."""

    head: list[tuple[int, int, McapRecord]] = field(default_factory=list)
    """(offset, length, record) of what stands outside of chunks."""
    chunks: list[ChunkSpan] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tail: int = 0
    """End of what is whole; the summary starts here, if there is one."""
    finished: bool = False
    unchecked: int = 0
    """Chunks whose content was not read, where not all was asked for."""


def walk(source: FileBytes, *, verify: bool) -> Walk:
    """Return what `source` consists of; with `verify` every chunk and index is read and checked, else skipped over."""
    found = Walk()
    if source.at(0, len(MAGIC)) != MAGIC:
        found.problems.append("the first bytes are not those of an MCAP file")
    position = len(MAGIC)
    while position < source.size:
        end = _step(source, position, found, verify=verify)
        if end is None and source.at(position, 1) == bytes([Opcode.DATA_END]) and _finish(source, position, found):
            break
        if end is None:
            for chunk in found.chunks[-1:]:
                _check_index(source, chunk)  # some of it may be what is damaged
            end = _next_landmark(source, position + 1)
            if end is None:
                found.problems.append(
                    f"the index at the end is missing or damaged: the last {source.size - position} bytes are not whole"
                )
                break
            found.problems.append(f"bytes {position} to {end} are damaged and were passed over")
        position = end
    else:
        for chunk in found.chunks[-1:]:
            _check_index(source, chunk)
        found.problems.append("the index at the end is missing: the recording was cut off, or is going on")
    found.tail = position
    if verify:
        found.problems += [
            f"the message index at byte {chunk.end} is damaged; its chunk is whole"
            for chunk in found.chunks
            if chunk.indexes and not _check_index(source, chunk)
        ]
    return found


def read_chunk(source: FileBytes, chunk: ChunkSpan) -> bytes | None:
    """Return a chunk's content; None when it does not match its checksum."""
    data = source.at(chunk.data_start, chunk.size)
    return data if len(data) == chunk.size and zlib.crc32(data) == chunk.crc else None


def _step(source: FileBytes, position: int, found: Walk, *, verify: bool) -> int | None:
    """Take the record at `position` in and return its end; None when it is not whole."""
    raw = source.at(position, _RECORD.size)
    if len(raw) < _RECORD.size:
        return None
    opcode, length = _RECORD.unpack(raw)
    end: int = position + _RECORD.size + length
    if end > source.size:
        return None
    if opcode == Opcode.CHUNK:
        taken = _take_chunk(source, position, found, verify=verify)
    elif opcode == Opcode.MESSAGE_INDEX:
        taken = _take_index(source, position, found)
    else:
        taken = opcode in _HEAD_RECORDS and length <= _MOST_HEAD and _take_head(source, position, found)
    return end if taken else None


def _take_chunk(source: FileBytes, position: int, found: Walk, *, verify: bool) -> bool:
    chunk = _chunk(source, position)
    if chunk is None:
        return False
    if verify:
        data = read_chunk(source, chunk)
        if data is None:
            found.problems.append(f"the chunk at byte {position} does not match its checksum and was left out")
            return _record_at(source, chunk.end)
        chunk.content = index_of(data)
    found.chunks.append(chunk)
    return True


def _take_head(source: FileBytes, position: int, found: Walk) -> bool:
    opcode, length = _RECORD.unpack(source.at(position, _RECORD.size))
    body = ReadDataStream(BytesIO(source.at(position + _RECORD.size, length)))
    try:
        record = _HEAD_RECORDS[opcode](body)
    except (McapError, ValueError, struct.error):
        return False
    found.head.append((position, _RECORD.size + length, record))
    return bool(body.count == length)


def _chunk(source: FileBytes, position: int) -> ChunkSpan | None:
    raw = source.at(position, _CHUNK.size)
    if len(raw) < _CHUNK.size:
        return None
    _, length, start_time, end_time, size, crc, named, data_length = _CHUNK.unpack(raw)
    if named or size != data_length or length != _CHUNK_REST + size or position + _CHUNK.size + size > source.size:
        return None
    data_start = position + _CHUNK.size
    end = data_start + size
    return ChunkSpan(position, data_start, end, start_time, end_time, crc, group_end=end)


def _take_index(source: FileBytes, position: int, found: Walk) -> bool:
    raw = source.at(position, _INDEX.size)
    if len(raw) < _INDEX.size:
        return False
    _, length, channel, records = _INDEX.unpack(raw)
    if length != records + 6 or records % 16:
        return False
    if found.chunks and found.chunks[-1].group_end == position:
        found.chunks[-1].indexes[channel] = (position, records // 16)
        found.chunks[-1].group_end = position + _RECORD.size + length
    return True


def _check_index(source: FileBytes, chunk: ChunkSpan) -> bool:
    """Compare the message indexes of a chunk with its content; forget them where they differ."""
    try:
        expected = chunk.content or index_of(source.at(chunk.data_start, chunk.size))
    except CodecError:  # its checksum does not match either
        expected = b""
    whole = bool(expected) and source.at(chunk.end, len(expected)) == expected
    if not whole:
        chunk.indexes.clear()
        chunk.group_end = chunk.end
    return whole


def _record_at(source: FileBytes, position: int) -> bool:
    """Return whether a record can start here."""
    return position == source.size or source.at(position, 1) in (
        bytes([Opcode.MESSAGE_INDEX]),
        bytes([Opcode.CHUNK]),
        bytes([Opcode.DATA_END]),
    )


def _finish(source: FileBytes, position: int, found: Walk) -> bool:
    """Check the summary behind the DataEnd record at `position`; returns whether the file ends as it should."""
    start = position + _RECORD.size + 4
    footer_at = source.size - len(MAGIC) - _FOOTER.size
    if footer_at < start or source.at(position, start - position) != _RECORD.pack(Opcode.DATA_END, 4) + bytes(4):
        return False
    opcode, length, summary_start, _, crc = _FOOTER.unpack(source.at(footer_at, _FOOTER.size))
    covered = source.at(start, footer_at - start + _FOOTER.size - 4)
    whole = (
        opcode == Opcode.FOOTER
        and length == _FOOTER.size - _RECORD.size
        and summary_start == start
        and zlib.crc32(covered) == crc
        and source.at(source.size - len(MAGIC), len(MAGIC)) == MAGIC
    )
    if not whole:
        return False
    found.finished = True
    return True


def _next_landmark(source: FileBytes, position: int) -> int | None:
    """Return where the next chunk starts that matches its checksum, or the next metadata record that is whole."""
    return next((at for at in _candidates(source, position) if _is_whole(source, at)), None)


def _candidates(source: FileBytes, position: int) -> Iterator[int]:
    for start in range(position, source.size, _WINDOW):
        window = source.at(start, _WINDOW + _CHUNK.size)
        match = _LANDMARK.search(window)
        while match is not None and match.start() < _WINDOW:
            yield start + match.start()
            match = _LANDMARK.search(window, match.start() + 1)


def _is_whole(source: FileBytes, position: int) -> bool:
    if source.at(position, 1) == bytes([Opcode.CHUNK]):
        chunk = _chunk(source, position)
        return chunk is not None and read_chunk(source, chunk) is not None
    return _step(source, position, Walk(), verify=False) is not None
