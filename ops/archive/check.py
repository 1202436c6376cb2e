"""Checks an archive as far as its reader needs it.

A recorder keeps events in chunks of their own, so whoever wants them alone reads a hundredth of the file. Where the
index at the end is whole and says the same as what stands before it, chunks without the streams that are needed are not
read: nobody knows then whether their pictures and sound are intact. Anywhere else everything is read and checked.
"""

from collections.abc import Collection

from ops.archive.chunk import index_of
from ops.archive.layout import CHANNELS, MIRRORS
from ops.archive.model import STREAMS
from ops.archive.summary import summary
from ops.archive.walk import FileBytes, Walk, read_chunk, walk


def checked_walk(source: FileBytes, streams: Collection[str] = STREAMS) -> Walk:
    """Return what `source` consists of, with every chunk that holds entries of `streams` read and checked.

    `ChunkSpan.content` is known of every chunk; of those that were not read, from the index behind them.
    """
    if set(STREAMS) - set(streams):
        found = walk(source, verify=False)
        if _is_indexed(source, found) and _check(source, found, streams):
            return found
    return walk(source, verify=True)


def _is_indexed(source: FileBytes, found: Walk) -> bool:
    """Return whether the summary, which has a checksum, knows exactly the chunks and indexes that were found."""
    return found.finished and source.at(found.tail, source.size - found.tail) == summary(found)


def _check(source: FileBytes, found: Walk, streams: Collection[str]) -> bool:
    """Read what must be read; returns False when something of it is damaged, so that all must be."""
    needed = {CHANNELS[stream] for stream in streams} | {MIRRORS[stream] for stream in streams if stream in MIRRORS}
    for chunk in found.chunks:
        index = source.at(chunk.end, chunk.group_end - chunk.end)
        if chunk.indexes and needed.isdisjoint(chunk.indexes):
            chunk.content = index
            found.unchecked += 1
            continue
        data = read_chunk(source, chunk)
        if data is None or index_of(data) != index:
            return False
        chunk.content = index
    return True
