"""The index and summary at the end of an archive, made from what stands in it."""

import struct
import zlib
from collections import Counter

from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    ChunkIndex,
    DataEnd,
    Footer,
    Metadata,
    MetadataIndex,
    Statistics,
    SummaryOffset,
)

from ops.archive.layout import MAGIC, METADATA, channels, schemas, taken
from ops.archive.walk import Walk


def summary(found: Walk) -> bytes:
    """Return what belongs behind `found.tail`: the end of the data section, the summary, the footer.

    Chunks without a whole message index are indexed without it, so that seeking readers read them through.
    """
    data_end = RecordBuilder()
    DataEnd(0).write(data_end)
    start = found.tail + data_end.count
    builder = RecordBuilder()
    offsets: list[SummaryOffset] = []

    def group(opcode: Opcode, began: int) -> None:
        if builder.count > began:
            offsets.append(SummaryOffset(opcode, start + began, builder.count - began))

    began = builder.count
    for schema in schemas():
        schema.write(builder)
    group(Opcode.SCHEMA, began)
    began = builder.count
    for channel in channels():
        channel.write(builder)
    group(Opcode.CHANNEL, began)
    began = builder.count
    _statistics(found).write(builder)
    group(Opcode.STATISTICS, began)
    began = builder.count
    for index in _chunk_indexes(found):
        index.write(builder)
    group(Opcode.CHUNK_INDEX, began)
    began = builder.count
    for offset, length, record in found.head:
        if isinstance(record, Metadata) and record.name == METADATA:
            MetadataIndex(offset, length, METADATA).write(builder)
    group(Opcode.METADATA_INDEX, began)
    offsets_start = start + builder.count
    for item in offsets:
        item.write(builder)
    written = taken(builder)
    begun = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offsets_start)
    footer = RecordBuilder()
    Footer(summary_start=start, summary_offset_start=offsets_start, summary_crc=zlib.crc32(written + begun)).write(
        footer
    )
    return taken(data_end) + written + taken(footer) + MAGIC


def _statistics(found: Walk) -> Statistics:
    counts: Counter[int] = Counter()
    for chunk in found.chunks:
        counts.update({channel: count for channel, (_, count) in chunk.indexes.items()})
    return Statistics(
        attachment_count=0,
        channel_count=len(channels()),
        channel_message_counts=dict(counts),
        chunk_count=len(found.chunks),
        message_count=counts.total(),
        message_start_time=min((chunk.start_time for chunk in found.chunks), default=0),
        message_end_time=max((chunk.end_time for chunk in found.chunks), default=0),
        metadata_count=1,
        schema_count=len(schemas()),
    )


def _chunk_indexes(found: Walk) -> list[ChunkIndex]:
    return [
        ChunkIndex(
            chunk_length=chunk.end - chunk.start,
            chunk_start_offset=chunk.start,
            compression="",
            compressed_size=chunk.size,
            message_end_time=chunk.end_time,
            message_index_length=chunk.group_end - chunk.end,
            message_index_offsets={channel: offset for channel, (offset, _) in chunk.indexes.items()},
            message_start_time=chunk.start_time,
            uncompressed_size=chunk.size,
        )
        for chunk in found.chunks
    ]
