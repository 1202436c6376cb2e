"""How fast an archive is written: for `mirage bench`."""

import time
from pathlib import Path

from ops.archive.chunk import CHUNK_BYTES, ChunkBuilder
from ops.archive.file import ArchiveFile
from ops.archive.layout import About
from schemas.bus.base import Entry
from schemas.ids import EntryId
from schemas.media import MediaHeader, pack

_FRAME_BYTES = 40_000


def archive_mb_per_s(folder: Path, *, megabytes: int = 256) -> float:
    """Write about so many MB of 40 KB frames through a recorder's own path, index included, and return MB/s.

    One core, without the bus. The file, in `folder`, is removed again.
    """
    path = folder / "speed.mcap"
    fields = pack(MediaHeader(pts_us=0, sent_us=0), bytes(range(250)) * (_FRAME_BYTES // 250))
    builder, written = ChunkBuilder(), 0
    begun = time.perf_counter()
    file = ArchiveFile.open(path, About("speed", None))
    try:
        for n in range(megabytes * 1_000_000 // _FRAME_BYTES):
            builder.add("video:in", Entry(EntryId(1_700_000_000_000 + n * 50, 0), fields))
            if builder.size >= CHUNK_BYTES:
                chunk = builder.take()
                file.append(chunk)
                written += len(chunk)
        file.finish()
    finally:
        file.close()
        path.unlink()
    return written / 1e6 / (time.perf_counter() - begun)
