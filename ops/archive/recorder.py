"""Records a session, as the task of a `record` worker.

| state | when |
|---|---|
| `on` | the file holds everything, or will within a second |
| `behind` | entries were found missing: retention took them before they were read |
| `degraded` | nothing can be written: disk full, folder gone, file held by another; the session goes on without it |
| `complete` | the session is over and every entry is in the file; its index follows |

It only reads the session's streams, and writes nothing to them but `ArchiveStatus`. The checkpoint is the file itself.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from ops.archive.file import archive_path
from ops.archive.follower import ArchiveFollower
from ops.archive.layout import About
from schemas.bus.base import Entry
from schemas.errors import BusUnavailable, CodecError
from schemas.events import EVENT, ArchiveStatus, metric_events
from schemas.ids import EntryId
from schemas.message import encode
from schemas.names import work
from schemas.session_store import WORK
from schemas.task import Lease, Source

log = structlog.get_logger(__name__)

ON, BEHIND, DEGRADED, COMPLETE = "on", "behind", "degraded", "complete"
_ROUND_S = 0.25  # far inside retention, and few enough rounds that they cost less than a wake-up a frame
_REPORT_S = 1.0
_SETTLE_S = 10.0  # workers settle what was in flight, and outcomes follow; a dead one does not hold the file open
_QUIET_S = 0.5
_PAGE = 500


class RecordTask:
    """Implements `SessionTask`. The runner feeds it metrics, which tell it that there is something to copy."""

    def __init__(self, lease: Lease, *, folder: Path) -> None:
        """Prepare a recording in `folder`; no I/O."""
        self._lease = lease
        record = lease.session
        self._follower = ArchiveFollower(
            lease.planes, lease.keys, archive_path(folder, record.sid), About(record.sid, record)
        )
        self._following: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._over = False
        self._missed_before = 0
        self._reported: tuple[str, int] | None = None
        self._reported_at = 0.0
        self._seq = 0
        self._log = log.bind(sid=record.sid)

    @property
    def source(self) -> Source:
        """The session's metric events."""
        return Source(self._lease.planes.events, self._lease.keys.metrics)

    async def resume(self) -> EntryId:
        """Begin to follow the streams from where the file ends."""
        self._missed_before = await self._missed_by_predecessors()
        last = await self.source.bus.last_id(self.source.stream)
        self._following = asyncio.create_task(self._follow(), name=f"record:{self._lease.keys.sid}")
        return last

    async def handle(self, entries: Sequence[Entry]) -> None:
        """See that the copying goes on; it reads these entries itself, from its own place."""
        del entries
        if self._following is not None and self._following.done():
            self._following.result()

    def end(self) -> None:
        """Take notice that the session is over: `close` finishes the file."""
        self._over = True

    async def close(self) -> None:
        """Stop; if the session is over, wait for its last entries, and write the index."""
        self._stop.set()
        try:
            if self._following is not None:
                await self._following
                if self._over:
                    await self._finish()
                else:
                    await self._follower.flush()
        finally:
            await self._follower.close()

    async def _follow(self) -> None:
        while not self._stop.is_set():
            await self._round()
            try:
                await asyncio.wait_for(self._stop.wait(), _ROUND_S)
            except TimeoutError:
                continue

    async def _round(self) -> None:
        missed = self._follower.missed
        try:
            await self._follower.round()
            grown = self._follower.missed > missed
            await self._report(DEGRADED if self._follower.trouble else BEHIND if grown else ON)
        except BusUnavailable as error:
            self._log.warning("recording waits for the server", error=str(error))

    async def _finish(self) -> None:
        """Copy what workers and ingress still write, then close the file off. Raises `BusUnavailable`."""
        due = time.monotonic() + _SETTLE_S
        while not await self._settled() and time.monotonic() < due:
            await self._round()
            await asyncio.sleep(_ROUND_S)
        await self._follower.round(flush=True)
        if await self._follower.flush():
            await self._report(COMPLETE)
            await self._follower.round(flush=True)
            if await self._follower.finish():
                self._log.info("recording complete", missed=self._missed)
                return
        await self._report(DEGRADED)
        self._log.error("recording ends without its last entries or its index", error=self._follower.trouble)

    async def _settled(self) -> bool:
        """Return whether nobody works on the session any more, and its streams are quiet."""
        if self._follower.trouble or time.monotonic() - self._follower.news_at < _QUIET_S:
            return False
        sid = self._lease.keys.sid.encode()
        for kind in WORK:
            if any(entry.fields.get(b"sid") == sid for entry in await self._lease.planes.events.entries(work(kind))):
                return False
        return True

    @property
    def _missed(self) -> int:
        return self._missed_before + self._follower.missed

    async def _report(self, state: str) -> None:
        """Say how the recording stands, when that has changed; while entries keep being missed, once a second."""
        now, status = time.monotonic(), (state, self._missed)
        same_state = self._reported is not None and self._reported[0] == state
        if status == self._reported or (same_state and now - self._reported_at < _REPORT_S):
            return
        self._seq += 1
        report = ArchiveStatus(
            producer=f"record:{self._lease.worker}:{self._lease.epoch}",
            seq=self._seq,
            state=state,
            missed=self._missed,
            detail=self._follower.trouble,
        )
        await self._lease.planes.events.append(self._lease.keys.metrics, {EVENT: encode(report)})
        self._reported, self._reported_at = status, now
        self._log.info("recording", state=state, missed=self._missed, detail=self._follower.trouble)

    async def _missed_by_predecessors(self) -> int:
        """Return what the last report of this session's recording counted."""
        until: EntryId | None = None
        while True:
            page = await self.source.bus.entries(self.source.stream, until=until, count=_PAGE, newest_first=True)
            for entry in page:
                status = _status(entry)
                if status is not None:
                    return status.missed
            if len(page) < _PAGE:
                return 0
            until = page[-1].id
            until = EntryId(until.ms, until.n - 1) if until.n else EntryId(until.ms - 1, 2**64 - 1)


def _status(entry: Entry) -> ArchiveStatus | None:
    try:
        event = metric_events.decode(entry.fields.get(EVENT, b""))
    except CodecError:
        return None
    return event if isinstance(event, ArchiveStatus) else None
