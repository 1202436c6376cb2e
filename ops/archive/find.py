"""Finds a session by what people name it: a file, an ID."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from ops.archive.file import archive_path
from ops.archive.live import fetch_session
from ops.archive.model import STREAMS, EmptyArchive, RecordedSession
from ops.archive.reader import open_archive
from schemas.bus.base import Planes
from schemas.errors import InputRejected, Misconfigured, NotFound

Connect = Callable[[], AbstractAsyncContextManager[Planes]]


async def find_session(
    target: str, *, folder: Path, connect: Connect, streams: Sequence[str] = STREAMS
) -> RecordedSession:
    """Return the session in the file `target`; or the archive of session `target` in `folder`; or what is kept of it.

    Only `streams` of it are fetched or checked. `connect` is only asked when there is neither file. Raises `NotFound`
    when there is no such session, what `open_archive` raises, and what `connect` raises.
    """
    path, empty = find_file(target, folder), None
    if path is not None:
        try:
            return open_archive(path, streams)
        except EmptyArchive as error:
            if path.stem != target:
                raise
            empty = error  # its recorder may have only begun
    try:
        async with connect() as planes:
            return await fetch_session(planes, target, streams)
    except (NotFound, Misconfigured) as error:
        raise empty or type(error)(f"{target} is not recorded in {folder}: {error}") from None


def find_file(target: str, folder: Path) -> Path | None:
    """Return the file `target`, or the archive of session `target` in `folder`; None when there is neither.

    Raises `NotFound` for what can be neither a file nor a session.
    """
    given = Path(target).expanduser()
    if given.is_file():
        return given
    try:
        recorded = archive_path(folder, target)
    except InputRejected:
        raise NotFound(f"no file {target!r}, and that is no session ID either") from None
    return recorded if recorded.is_file() else None
