"""Reads a session that is still on its streams: live, or ended and inside retention."""

from collections.abc import Iterator, Mapping, Sequence

from ops.archive.gaps import gaps
from ops.archive.layout import log_time
from ops.archive.model import MEDIA_STREAMS, STREAMS, require_stream
from schemas.bus.base import Bus, Entry, Planes
from schemas.errors import NotFound
from schemas.ids import ZERO, EntryId
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord, SessionStore

_MEDIA_PAGE, _EVENT_PAGE = 32, 512


def stream_key(keys: SessionKeys, stream: str) -> str:
    """Return the key of one of `STREAMS`."""
    require_stream(stream)
    return str(getattr(keys, stream.replace(":", "_")))


class KeptSession:
    """Implements `RecordedSession` on what was fetched."""

    def __init__(self, record: SessionRecord, found: Mapping[str, Sequence[Entry]]) -> None:
        """Hold the entries of each fetched stream."""
        self.record: SessionRecord = record
        self.sid = record.sid
        self.streams = tuple(found)
        self._found = found
        recorded = {
            name: {log_time(entry.id) for entry in entries} for name, entries in found.items() if name in MEDIA_STREAMS
        }
        self.problems = tuple(gaps(found.get("metrics", ()), recorded))

    def entries(self, stream: str, *, after: EntryId = ZERO) -> Iterator[Entry]:
        """See `RecordedSession.entries`."""
        require_stream(stream)
        return (entry for entry in self._found.get(stream, ()) if entry.id > after)


async def fetch_session(planes: Planes, sid: str, streams: Sequence[str] = STREAMS) -> KeptSession:
    """Return the session as far as its streams still hold it, in memory; what retention took is in its `problems`.

    Raises `NotFound` when there is no such session (any more), ValueError for a stream that is none of `STREAMS`.
    """
    keys = SessionKeys(sid)
    try:
        record = (await SessionStore(planes).load(sid)).record
    except NotFound:
        raise NotFound(f"no session {sid}: neither live nor ended within MIRAGE_EVENT_TTL_S") from None
    events = [stream for stream in streams if stream not in MEDIA_STREAMS]
    # Events end where they ended before media are read: so whatever they name was there, or retention took it.
    ends = {stream: await planes.events.last_id(stream_key(keys, stream)) for stream in events}
    found: dict[str, list[Entry]] = {}
    for stream in streams:
        if stream in MEDIA_STREAMS:
            key = stream_key(keys, stream)
            found[stream] = await _read(planes.media, key, await planes.media.last_id(key), _MEDIA_PAGE)
    for stream, end in ends.items():
        found[stream] = await _read(planes.events, stream_key(keys, stream), end, _EVENT_PAGE)
    return KeptSession(record, found)


async def _read(bus: Bus, key: str, end: EntryId, page: int) -> list[Entry]:
    """Return a stream's entries up to `end`: a live stream has none of its own."""
    entries: list[Entry] = []
    while True:
        found = await bus.entries(key, after=entries[-1].id if entries else ZERO, until=end, count=page)
        entries += found
        if len(found) < page:
            return entries
