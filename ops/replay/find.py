"""Finds the session to replay: a file, an archive, or what is on the streams."""

import os
from pathlib import Path

from ops.archive.find import Connect, find_file, find_session
from ops.archive.layout import MAGIC
from ops.archive.live import fetch_session
from ops.archive.model import EVENT_STREAMS, RecordedSession
from ops.archive.reader import ArchivedSession
from schemas.errors import BusUnavailable, Misconfigured, NotFound


async def find(target: str, *, folder: Path, connect: Connect) -> RecordedSession:
    """Return the session in the file `target`; or session `target`, from the archive in `folder` where that is whole.

    Of a session whose recording goes on (or was cut off) the streams know more, as long as they are kept; they are
    fetched without media. Raises what `find_session` raises.
    """
    path = find_file(target, folder)
    unfinished = path is not None and path.stem == target and not _is_finished(path)
    if unfinished and (kept := await _kept(target, connect)) is not None:
        return kept  # without reading hours of an archive that says less
    recorded = await find_session(target, folder=folder, connect=connect, streams=EVENT_STREAMS)
    if not unfinished and isinstance(recorded, ArchivedSession) and recorded.path.stem == target and recorded.problems:
        return await _kept(target, connect) or recorded
    return recorded


def _is_finished(path: Path) -> bool:
    """Return whether a file ends as archives with an index do."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(len(MAGIC), end - len(MAGIC)))  # the magic that it begins with is not that of its end
            return file.read() == MAGIC
    except OSError:
        return False


async def _kept(target: str, connect: Connect) -> RecordedSession | None:
    try:
        async with connect() as planes:
            return await fetch_session(planes, target, EVENT_STREAMS)
    except (NotFound, Misconfigured, BusUnavailable):
        return None
