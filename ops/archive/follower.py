"""Copies a session's streams into its archive, as fast as the disk takes them and never faster.

Events and media go into chunks of their own, so that a replay of decisions need not read the pictures.

It reads what has come since the last round, a few pages at a time, and remembers how far the *file* holds each stream.
When the disk refuses, what was read and not written is forgotten, and read again once the disk takes it: memory stays
the same, and what retention takes in the meantime is counted.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from ops.archive.chunk import CHUNK_BYTES, ChunkBuilder
from ops.archive.file import ArchiveFile
from ops.archive.layout import About
from ops.archive.live import stream_key
from ops.archive.missing import MissingMedia
from ops.archive.model import EVENT_STREAMS, MEDIA_STREAMS, STREAMS, ArchiveError
from schemas.bus.base import Bus, Entry, Planes
from schemas.ids import ZERO
from schemas.names import SessionKeys

_MEDIA_PAGE = 8  # entries of up to MIRAGE_MAX_FRAME_BYTES, from each of four streams
_EVENT_PAGE = 256
_FLUSH_S = 1.0
_RETRY_S = 1.0


class _Pending:
    """What was read and is not in the file yet, of some streams: the chunk that it makes."""

    def __init__(self) -> None:
        self.builder = ChunkBuilder()
        self.entries: list[tuple[str, Entry]] = []
        self.since = 0.0

    def add(self, stream: str, entry: Entry) -> None:
        if not self.entries:
            self.since = time.monotonic()
        self.builder.add(stream, entry)
        self.entries.append((stream, entry))

    def is_due(self) -> bool:
        return bool(self.entries) and time.monotonic() - self.since >= _FLUSH_S


class ArchiveFollower:
    """One session on its way into one file. Driven by one coroutine."""

    def __init__(self, planes: Planes, keys: SessionKeys, path: Path, about: About) -> None:
        """Prepare; nothing is opened or read before the first `round`."""
        self._planes, self._path, self._about = planes, path, about
        self._names = {stream_key(keys, stream): stream for stream in STREAMS}
        self._keys = {stream: key for key, stream in self._names.items()}
        self._file: ArchiveFile | None = None
        self._pending: dict[tuple[str, ...], _Pending] = {MEDIA_STREAMS: _Pending(), EVENT_STREAMS: _Pending()}
        self._written = dict.fromkeys(STREAMS, ZERO)
        self._read = dict(self._written)
        self._missing: MissingMedia | None = None
        self._retry_at = 0.0
        self._on_its_way: asyncio.Future[None] | None = None
        self.trouble = ""
        """Why nothing can be written now; empty while all is well."""
        self.news_at = time.monotonic()
        """When a round last found something."""

    @property
    def missed(self) -> int:
        """Entries that are known to be missing in the file, since this follower began."""
        return 0 if self._missing is None else self._missing.missed

    async def round(self, *, flush: bool = False) -> None:
        """Copy everything that is there; with `flush`, to the last entry. Raises `BusUnavailable`."""
        if time.monotonic() < self._retry_at or not await self._opened():
            return
        while True:
            news = False
            while found := await self._page(self._planes.media, MEDIA_STREAMS, _MEDIA_PAGE):
                news = True
                if not await self._take(MEDIA_STREAMS, found):
                    return
            self._settle()
            found = await self._page(self._planes.events, EVENT_STREAMS, _EVENT_PAGE)
            if not await self._take(EVENT_STREAMS, found):
                return
            if not news and not found:
                break
            self.news_at = time.monotonic()
        if await self._commit_all(flush=flush):
            self._settle()

    def _settle(self) -> None:
        if self._missing is not None:
            self._missing.settle(self._read)

    async def finish(self) -> bool:
        """Write what is pending, and the index; returns whether the file is whole now."""
        return await self.flush() and self._file is not None and await self._on_disk(self._file.finish)

    async def flush(self) -> bool:
        """Write what is pending; returns whether the file holds all that was read, and the disk takes what comes."""
        return not self.trouble and await self._opened() and await self._commit_all(flush=True)

    async def close(self) -> None:
        """Close the file, and free it for others: not under a call that still writes, which a cancellation leaves."""
        if self._on_its_way is not None:
            await asyncio.wait([self._on_its_way])
        if self._file is not None:
            await asyncio.to_thread(self._file.close)
            self._file = None

    async def _opened(self) -> bool:
        if self._file is None and not await self._on_disk(self._open):
            return False
        if self._missing is None and self._file is not None:
            self._written |= self._file.positions
            self._read = dict(self._written)
            self._missing = MissingMedia(self._written)
        return True

    def _open(self) -> None:
        # Kept at once, in the thread that opens it: a cancellation must not lose sight of a file that holds a lock.
        self._file = ArchiveFile.open(self._path, self._about)

    async def _page(self, bus: Bus, streams: tuple[str, ...], count: int) -> dict[str, list[Entry]]:
        cursors = {self._keys[stream]: self._read[stream] for stream in streams}
        found = await bus.read(cursors, count=count, block_ms=None)
        return {self._names[key]: entries for key, entries in found.items()}

    async def _take(self, streams: tuple[str, ...], found: dict[str, list[Entry]]) -> bool:
        """Add what was read of `streams`; returns False when the disk refused."""
        for stream, entries in found.items():
            for entry in entries:
                self._pending[streams].add(stream, entry)
                self._read[stream] = entry.id
                if self._pending[streams].builder.size >= CHUNK_BYTES and not await self._commit(streams):
                    return False
        return True

    async def _commit_all(self, *, flush: bool) -> bool:
        """Write what is due, or with `flush` everything; returns False when the disk refused."""
        for streams, pending in list(self._pending.items()):
            if (pending.is_due() or (flush and pending.entries)) and not await self._commit(streams):
                return False
        return True

    async def _commit(self, streams: tuple[str, ...]) -> bool:
        file, pending = self._file, self._pending[streams]
        self._pending[streams] = _Pending()
        chunk = pending.builder.take()
        if file is None or not await self._on_disk(lambda: file.append(chunk)):
            self._pending = {streams: _Pending() for streams in self._pending}
            self._read = dict(self._written)
            return False
        for stream, entry in pending.entries:
            self._written[stream] = entry.id
            if self._missing is not None:
                self._missing.note(stream, entry)
        return True

    async def _on_disk(self, call: Callable[[], None]) -> bool:
        """Run a call that may block on the disk, off the event loop; returns whether it went well."""
        try:
            self._on_its_way = asyncio.ensure_future(asyncio.to_thread(call))
            await asyncio.shield(self._on_its_way)
        except (OSError, ArchiveError) as error:
            self.trouble = str(error)
            self._retry_at = time.monotonic() + _RETRY_S
            return False
        self.trouble = ""
        return True
