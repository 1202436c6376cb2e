"""Reads an archive: also one that is cut off, damaged, or still being written, as far as it is intact."""

from collections.abc import Collection, Iterator
from pathlib import Path

from mcap.records import Header, Metadata

from ops.archive.check import checked_walk
from ops.archive.chunk import channels_in, messages_in, times_in
from ops.archive.entry_codec import unpack_entry
from ops.archive.gaps import gaps
from ops.archive.layout import CHANNELS, METADATA, PROFILE, About, log_time, read_metadata
from ops.archive.model import MEDIA_STREAMS, STREAMS, EmptyArchive, NotAnArchive, require_stream
from ops.archive.walk import FileBytes, Walk, read_chunk
from schemas.bus.base import Entry
from schemas.errors import CodecError, NotFound
from schemas.ids import ZERO, EntryId
from schemas.session_store import SessionRecord


class ArchivedSession:
    """Implements `RecordedSession` on a file, which is checked when this is made."""

    def __init__(self, path: Path, streams: Collection[str]) -> None:
        """Use `open_archive`."""
        self.path = path
        with path.open("rb") as file:
            source = FileBytes(file.fileno())
            self._found = checked_walk(source, streams)
            about = _about(path, source, self._found)
        self._about = about or About(path.stem, None)
        self._problems = list(self._found.problems)
        if about is None:
            self._problems.append("the record of the session is damaged")
        if not self._found.chunks:
            raise EmptyArchive(f"{path} holds no readable entry: {'; '.join(self._problems) or 'nothing was recorded'}")
        self._problems += self._gaps()
        self._problems += [f"copied without: {said}" for said in self._about.problems if said not in self._problems]

    @property
    def sid(self) -> str:
        """See `RecordedSession.sid`; the file's name where the record of the session is damaged."""
        return self._about.sid

    @property
    def record(self) -> SessionRecord | None:
        """See `RecordedSession.record`."""
        return self._about.record

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that were to be recorded."""
        return self._about.streams

    @property
    def problems(self) -> tuple[str, ...]:
        """See `RecordedSession.problems`."""
        return tuple(self._problems)

    @property
    def is_checked(self) -> bool:
        """Whether every chunk was read and checked. Of the others, what is damaged is left out without a word."""
        return not self._found.unchecked

    def entries(self, stream: str, *, after: EntryId = ZERO) -> Iterator[Entry]:
        """See `RecordedSession.entries`. Reads one chunk at a time, and none that ends before `after`."""
        require_stream(stream)
        channel, last, begin = CHANNELS[stream], after, log_time(after)
        with self.path.open("rb") as file:
            source = FileBytes(file.fileno())
            for chunk in self._found.chunks:
                if chunk.end_time < begin or channel not in channels_in(chunk.content):
                    continue
                for number, message in messages_in(read_chunk(source, chunk) or b""):
                    if number == channel:
                        entry = unpack_entry(stream, message)
                        if entry.id > last:
                            last = entry.id
                            yield entry

    def _gaps(self) -> list[str]:
        recorded: dict[str, set[int]] = {stream: set() for stream in MEDIA_STREAMS if stream in self.streams}
        for chunk in self._found.chunks:
            times = times_in(chunk.content)
            for stream, known in recorded.items():
                known.update(times.get(CHANNELS[stream], ()))
        return list(gaps(self.entries("metrics"), recorded))


def open_archive(path: Path, streams: Collection[str] = STREAMS) -> ArchivedSession:
    """Return the session in the file; what is damaged or missing is in its `problems`.

    Whoever needs only some of its `streams` says so: where the index is whole, the others' chunks are not read before
    their entries are asked for, and not checked until then.
    Raises `NotFound` when there is no file, `NotAnArchive` for anything that Mirage did not write, `EmptyArchive` when
    no entry of it is readable, `NewerArchive` for a format that this build does not know.
    """
    try:
        return ArchivedSession(path, streams)
    except OSError as error:
        raise NotFound(f"{path} cannot be read: {error.strerror}") from None
    except CodecError as error:
        raise NotAnArchive(f"{path} passes its checksums, but is no archive of Mirage: {error}") from None


def _about(path: Path, source: FileBytes, found: Walk) -> About | None:
    """Return what the head says; None when it is damaged but ours."""
    if source.size == 0:
        raise EmptyArchive(f"{path} is empty")
    records = [record for _, _, record in found.head]
    for record in records:
        if isinstance(record, Metadata) and record.name == METADATA and (about := read_metadata(record.metadata)):
            return about
    if any(
        (isinstance(record, Metadata) and record.name == METADATA)
        or (isinstance(record, Header) and record.profile == PROFILE)
        for record in records
    ):
        return None
    raise NotAnArchive(f"{path} is not an archive of Mirage; expected an MCAP file that a recorder or export wrote")
