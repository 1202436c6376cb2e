"""Made-up sessions, and what is in a file or on the bus, for comparison."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.archive.chunk import CHUNK_BYTES, ChunkBuilder
from ops.archive.file import ArchiveFile
from ops.archive.layout import About
from ops.archive.model import EVENT_STREAMS, MEDIA_STREAMS, STREAMS, RecordedSession
from schemas.bus.base import Entry
from schemas.decisions import DropVideoUntil
from schemas.events import EVENT, SessionStarted, VideoProcessed
from schemas.facts import SessionCreated
from schemas.ids import ZERO, EntryId
from schemas.media import MediaHeader, pack
from schemas.message import encode
from schemas.session_store import SessionRecord

RECORD = SessionRecord(sid="made-up", owner="test", created_ms=1, expires_ms=2, record=True)
Content = Mapping[str, Sequence[Entry]]


@dataclass
class MadeUp:
    """A session that was never live."""

    found: Content
    sid: str = RECORD.sid
    record: SessionRecord | None = RECORD
    problems: tuple[str, ...] = field(default=())

    def entries(self, stream: str, *, after: EntryId = ZERO) -> Iterator[Entry]:
        return (entry for entry in self.found.get(stream, ()) if entry.id > after)


def short_session(frames: int = 40, frame_bytes: int = 3000) -> dict[str, list[Entry]]:
    """Return a consistent session: every frame has its output and its outcome."""
    at = [EntryId(1_700_000_000_000 + 50 * n, n % 3) for n in range(frames)]
    header = MediaHeader(pts_us=7, sent_us=8)
    outcomes = [
        VideoProcessed(
            id=str(entry_id), pts_us=0, epoch=1, runtime_us=9, stages_us={"swap": 5}, faces=1,
            detector_ran=False, confidence_pm=900, outcome="swapped",
        )
        for entry_id in at
    ]  # fmt: skip
    frames_in = [Entry(entry_id, pack(header, bytes([n % 256]) * frame_bytes)) for n, entry_id in enumerate(at)]
    frames_out = [
        Entry(entry_id, pack(header, bytes([n % 251]) * frame_bytes, outcome))
        for n, (entry_id, outcome) in enumerate(zip(at, outcomes, strict=True))
    ]
    start = EntryId(at[0].ms - 1, 0)
    return {
        "metrics": [Entry(start, {EVENT: encode(SessionStarted())})]
        + [Entry(EntryId(item.ms + 9, 0), {EVENT: encode(event)}) for item, event in zip(at, outcomes, strict=True)],
        "policy": [Entry(start, {EVENT: encode(DropVideoUntil(cause=str(start), rule="floor", floor_us=-3))})],
        "control": [Entry(start, {EVENT: encode(SessionCreated(owner="test"))})],
        "video:in": frames_in,
        "video:out": frames_out,
        "audio:in": [],
        "audio:out": [Entry(EntryId(5, 0), pack(header, b"\1\0" * 100))],
    }


def content(session: RecordedSession) -> dict[str, list[Entry]]:
    return {stream: list(session.entries(stream)) for stream in STREAMS}


def write(
    path: Path, found: Content, *, finish: bool = True, chunk_bytes: int = CHUNK_BYTES, apart: bool = False
) -> bytes:
    """Write an archive in the order of IDs; `apart`: events apart from media, as recorders do; returns its bytes."""
    file = ArchiveFile.open(path, About(RECORD.sid, RECORD))
    for streams in (EVENT_STREAMS, MEDIA_STREAMS) if apart else (STREAMS,):
        append(file, in_order({stream: found[stream] for stream in streams}), chunk_bytes=chunk_bytes)
    if finish:
        file.finish()
    file.close()
    return path.read_bytes()


def in_order(found: Content) -> list[tuple[str, Entry]]:
    pairs = [(stream, entry) for stream, entries in found.items() for entry in entries]
    return sorted(pairs, key=lambda pair: pair[1].id)


def append(file: ArchiveFile, pairs: Iterable[tuple[str, Entry]], *, chunk_bytes: int = CHUNK_BYTES) -> None:
    builder = ChunkBuilder()
    for stream, entry in pairs:
        builder.add(stream, entry)
        if builder.size >= chunk_bytes:
            file.append(builder.take())
    if builder.size:
        file.append(builder.take())
