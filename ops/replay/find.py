"""Finds the session to replay: a file, an archive, or what is on the streams."""

import contextlib
from pathlib import Path

from ops.archive.find import Connect, find_session
from ops.archive.live import fetch_session
from ops.archive.model import EVENT_STREAMS, RecordedSession
from ops.archive.reader import ArchivedSession
from schemas.errors import BusUnavailable, Misconfigured, NotFound


async def find(target: str, *, folder: Path, connect: Connect) -> RecordedSession:
    """Return the session in the file `target`; or session `target`, from the archive in `folder` where that is whole.

    Of a session whose recording goes on (or was cut off) the streams know more, as long as they are kept; they are
    fetched without media. Raises what `find_session` raises.
    """
    recorded = await find_session(target, folder=folder, connect=connect, streams=EVENT_STREAMS)
    if isinstance(recorded, ArchivedSession) and recorded.path.stem == target and recorded.problems:
        with contextlib.suppress(NotFound, Misconfigured, BusUnavailable):
            async with connect() as planes:
                return await fetch_session(planes, target, EVENT_STREAMS)
    return recorded
