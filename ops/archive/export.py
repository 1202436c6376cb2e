"""Writes a session as a new archive, whole and indexed: from its streams, or from an archive that may be torn."""

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.archive.chunk import CHUNK_BYTES, ChunkBuilder
from ops.archive.file import ArchiveFile
from ops.archive.layout import About
from ops.archive.model import EmptyArchive, RecordedSession
from schemas.errors import Conflict, Misconfigured


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    entries: dict[str, int]
    """Entries of each stream."""
    size: int
    """Bytes of the file."""


def export_archive(session: RecordedSession, out: Path, streams: Sequence[str]) -> Exported:
    """Write `streams` of `session` to the new file `out`, mode 0600.

    `out` appears when it is whole. Raises `Conflict` when it is there already, `EmptyArchive` when there is nothing to
    write, `Misconfigured` when it cannot be written.
    """
    if out.exists():
        raise Conflict(f"{out} is there already; name another file")
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        try:
            counts = _write(session, unfinished, streams)
            if not sum(counts.values()):
                raise EmptyArchive(f"session {session.sid} has no entry in {', '.join(streams)}")
            os.link(unfinished, out)  # unlike a rename, it replaces nothing
        finally:
            unfinished.unlink(missing_ok=True)
    except FileExistsError:
        raise Conflict(f"{out} is there already; name another file") from None
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from None
    return Exported(counts, out.stat().st_size)


def _write(session: RecordedSession, path: Path, streams: Sequence[str]) -> dict[str, int]:
    file = ArchiveFile.open(path, About(session.sid, session.record, tuple(streams), session.problems))
    try:
        builder, counts = ChunkBuilder(), dict.fromkeys(streams, 0)
        for stream in streams:
            for entry in session.entries(stream):
                builder.add(stream, entry)
                counts[stream] += 1
                if builder.size >= CHUNK_BYTES:
                    file.append(builder.take())
        if builder.size:
            file.append(builder.take())
        file.finish()
    finally:
        file.close()
    return counts
