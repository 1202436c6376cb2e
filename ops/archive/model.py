"""What a recorded session is, wherever it comes from: an archive file, or streams that are still kept."""

from collections.abc import Iterator
from typing import Protocol

from schemas.bus.base import Entry
from schemas.errors import MirageError
from schemas.ids import ZERO, EntryId
from schemas.session_store import SessionRecord

EVENT_STREAMS = ("metrics", "policy", "control")
VIDEO_STREAMS = ("video:in", "video:out")
AUDIO_STREAMS = ("audio:in", "audio:out")
MEDIA_STREAMS = (*VIDEO_STREAMS, *AUDIO_STREAMS)
STREAMS = (*EVENT_STREAMS, *MEDIA_STREAMS)
"""Every stream of a session, by the suffix of its key in `schemas.names.SessionKeys`."""


class RecordedSession(Protocol):
    """A session as it happened, to the byte."""

    @property
    def sid(self) -> str:
        """The session's ID."""
        ...

    @property
    def record(self) -> SessionRecord | None:
        """What the session was created with; None where that was damaged."""
        ...

    @property
    def problems(self) -> tuple[str, ...]:
        """Damage and gaps, each in a plain sentence; empty for a session that is here whole."""
        ...

    def entries(self, stream: str, *, after: EntryId = ZERO) -> Iterator[Entry]:
        """Yield the entries of one of `STREAMS`, ascending by ID: IDs and fields exactly as they were on the bus.

        Only those with a greater ID than `after`.
        Empty for a stream that was left out, raises ValueError for a name that is none of `STREAMS`.
        """
        ...


class ArchiveError(MirageError):
    """A file that cannot be read as a recorded session."""

    code = "archive"


class NotAnArchive(ArchiveError):
    """The file is no MCAP file, or one that Mirage did not write."""

    code = "not_an_archive"


class EmptyArchive(ArchiveError):
    """The archive holds no readable entry."""

    code = "empty_archive"


class NewerArchive(ArchiveError):
    """The archive was written by a newer build, in a format that this one does not know."""

    code = "newer_archive"


def require_stream(stream: str) -> None:
    """Raise ValueError unless `stream` is one of `STREAMS`."""
    if stream not in STREAMS:
        raise ValueError(f"no stream {stream!r}; expected one of {', '.join(STREAMS)}")
