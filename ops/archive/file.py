"""The one file that a recorder writes: locked, appended chunk by chunk, resumed where it was left, indexed at the end.

A resumed file goes on behind its last whole chunk; an index that was there already is cut off and written anew. The
lock is the kernel's (`flock`): it ends with its holder, however that ends, and a holder that is only frozen keeps it.
"""

import contextlib
import fcntl
import os
import re
from pathlib import Path
from typing import Self

from mcap.records import Header

from ops.archive.chunk import index_of, messages_in
from ops.archive.entry_codec import unpack_entry
from ops.archive.layout import PROFILE, STREAM_OF, About, head
from ops.archive.model import ArchiveError, NotAnArchive
from ops.archive.summary import summary
from ops.archive.walk import FileBytes, Walk, read_chunk, walk
from schemas.errors import InputRejected
from schemas.ids import EntryId


class ArchiveBusy(ArchiveError):
    """Another process is writing this archive."""

    code = "archive_busy"


def archive_path(folder: Path, sid: str) -> Path:
    """Return where a session's archive lies; raises `InputRejected` for what cannot be a session's ID."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", sid):
        raise InputRejected(f"{sid[:40]!r} is not a session ID; expected letters, digits, - and _", code="bad_sid")
    return folder / f"{sid}.mcap"


class ArchiveFile:
    """An archive open for writing. Every method may block on the disk, and raise OSError when it is full or gone."""

    def __init__(self, descriptor: int, end: int, positions: dict[str, EntryId]) -> None:
        """Take a locked descriptor over; use `open`."""
        self._descriptor, self._end = descriptor, end
        self.positions = positions
        """Last ID of each stream in the file, as it was when it was opened."""

    @classmethod
    def open(cls, path: Path, about: About) -> Self:
        """Create the file, or go on with it; mode 0600.

        Raises `ArchiveBusy` while another process writes it, `NotAnArchive` when something else lies there.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ArchiveBusy(f"{path} is being written by another process") from None
            end, positions = _resume(descriptor, path, about)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, end, positions)

    def append(self, chunk: bytes) -> None:
        """Write a chunk behind the last one. After OSError nothing of it is there, and it may be tried again."""
        _write(self._descriptor, self._end, chunk)
        self._end += len(chunk)

    def finish(self) -> None:
        """Write the index and flush the file to the disk."""
        found = walk(FileBytes(self._descriptor), verify=False)
        _write(self._descriptor, found.tail, summary(found))
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file and free it for others."""
        os.close(self._descriptor)


def _write(descriptor: int, at: int, data: bytes) -> None:
    """Write all of `data` at `at`, the end of the file; after OSError the file ends there."""
    view, done = memoryview(data), 0
    try:
        while done < len(data):
            done += os.pwrite(descriptor, view[done:], at + done)
    except OSError:
        with contextlib.suppress(OSError):  # what stays is a torn tail, which readers and `_resume` know
            os.ftruncate(descriptor, at)
        raise


def _resume(descriptor: int, path: Path, about: About) -> tuple[int, dict[str, EntryId]]:
    """Cut what is not whole off the end; return where to go on, and the last ID of each stream."""
    source = FileBytes(descriptor)
    found = walk(source, verify=False)
    beginning = head(about)
    if not _is_ours(found) and not beginning.startswith(source.at(0, source.size)):
        raise NotAnArchive(f"{path} is not an archive of Mirage; move it away")
    while found.chunks and read_chunk(source, found.chunks[-1]) is None:
        found.chunks.pop()
    if not found.chunks:
        os.ftruncate(descriptor, 0)
        _write(descriptor, 0, beginning)
        return len(beginning), {}
    last = found.chunks[-1]
    index = index_of(read_chunk(source, last) or b"")  # its records may have been cut off
    positions = last_ids(source, found)
    os.ftruncate(descriptor, last.end)
    _write(descriptor, last.end, index)
    return last.end + len(index), positions


def _is_ours(found: Walk) -> bool:
    return any(isinstance(record, Header) and record.profile == PROFILE for _, _, record in found.head)


def last_ids(source: FileBytes, found: Walk) -> dict[str, EntryId]:
    """Return the last ID of each stream, from the last whole chunk that holds it."""
    positions: dict[str, EntryId] = {}
    for chunk in reversed(found.chunks):
        wanted = {channel for channel, stream in STREAM_OF.items() if stream not in positions}
        if not wanted:
            break
        if chunk.indexes and not wanted & chunk.indexes.keys():
            continue
        data = read_chunk(source, chunk)
        if data is None:
            continue
        last = {channel: message for channel, message in messages_in(data) if channel in wanted}
        for channel, message in last.items():
            stream = STREAM_OF[channel]
            positions[stream] = unpack_entry(stream, message).id
    return positions
