"""Drives one claimed session: fences older owners off, makes its task, feeds it, and notices the end."""

import asyncio

import structlog

from schemas.bus.base import Bus, Fence, Planes, WorkEntry
from schemas.clock import Clock
from schemas.errors import BusUnavailable, Fenced, MirageError, NotFound
from schemas.events import EVENT, WorkerTook
from schemas.ids import EntryId
from schemas.message import encode
from schemas.names import Kind, SessionKeys
from schemas.session_store import Session, SessionRecord, SessionStore
from schemas.task import Lease, SessionTask, TaskFactory
from workers.runner_settings import RunnerSettings

log = structlog.get_logger(__name__)

_READ_COUNT = 32
_BLOCK_MS = 250
_BACKOFF_S = 0.25
_GONE = "gone"  # the record is no more: the session ended long ago


class Drained(MirageError):
    """The worker is asked to stop; the session is to be handed over."""

    code = "drained"


class SessionService:
    """One session on this worker, from claim to end."""

    def __init__(
        self,
        kind: Kind,
        entry: WorkEntry,
        *,
        worker: str,
        planes: Planes,
        sessions: SessionStore,
        factory: TaskFactory,
        clock: Clock,
        settings: RunnerSettings,
    ) -> None:
        """Prepare; no I/O."""
        self._kind, self._entry, self._worker = kind, entry, worker
        self._planes, self._sessions, self._factory = planes, sessions, factory
        self._clock, self._settings = clock, settings
        self._keys = SessionKeys(entry.sid)
        self._draining = False
        self._log = log.bind(kind=kind.value, sid=entry.sid, worker=worker)

    def drain(self) -> None:
        """Stop after the batch in flight."""
        self._draining = True

    async def run(self) -> None:
        """Work until the session is over (and retired). Returns too when the lease turns out to be another's.

        Raises `Drained` after `drain`.
        """
        while not self._draining:
            try:
                over = await self._drive()
                if over is not None:
                    await self._finish(over)
            except BusUnavailable as error:
                self._log.warning("server away", error=str(error))
                await asyncio.sleep(_BACKOFF_S)
            except Fenced:
                # Either somebody took the session over, or a late claimer raised the epoch and gave up.
                if not await self._is_mine_surely():
                    self._log.warning("fenced")
                    return
            else:
                return
        raise Drained(self._entry.sid)

    async def _drive(self) -> str | None:
        """Run one task from its checkpoint; returns why the session is over, or None when the lease is not ours."""
        session, over = await self._look()
        if session is None:
            return over
        epoch = await self._epoch_plane.raise_epoch(self._keys.epoch, self._kind)
        if not await self._is_mine():
            return None
        fence = Fence(self._keys.epoch, self._kind, epoch)
        took = WorkerTook(kind=self._kind, worker=self._worker, epoch=epoch)
        await self._planes.events.append(self._keys.metrics, {EVENT: encode(took)})
        self._log.info("took session", epoch=epoch)
        task = self._factory(self._lease(session.record, fence))
        try:
            return await self._feed(task, await task.resume(), over)
        except (Fenced, BusUnavailable, Drained):
            raise
        except Exception:
            if over is None:
                raise
            # Tried once: a session that is over must not go round for ever because its last inputs cannot be settled.
            self._log.exception("could not settle what was left")
            return over
        finally:
            await task.close()

    @property
    def _epoch_plane(self) -> Bus:
        """The plane whose streams the epoch guards: a fence must live beside what it fences."""
        return self._planes.media if self._kind in (Kind.VIDEO, Kind.VOICE) else self._planes.events

    def _lease(self, record: SessionRecord, fence: Fence) -> Lease:
        return Lease(self._kind, self._keys, record, self._worker, fence, self._planes, self._clock)

    async def _feed(self, task: SessionTask, cursor: EntryId, over: str | None) -> str:
        """Hand input to the task; returns why the session is over, once it is and its input is used up.

        `over` says that it was already: somebody ended it while nobody held it, and its input wants outcomes still.
        """
        source = task.source
        check_due = 0
        if over is not None:
            task.end()
        while not self._draining:
            found = await source.bus.read({source.stream: cursor}, count=_READ_COUNT, block_ms=_BLOCK_MS)
            entries = found.get(source.stream, [])
            if entries:
                await task.handle(entries)
                cursor = entries[-1].id
            elif over is not None:
                return over
            if over is None and self._clock.monotonic_us() >= check_due:
                _, over = await self._look()
                if over is not None:
                    # At once, also while input flows: an expired consent does not wait for the publisher to pause.
                    task.end()
                    await self._end(over)
                check_due = self._clock.monotonic_us() + self._settings.check_ms * 1000
        raise Drained(self._entry.sid)

    async def _look(self) -> tuple[Session | None, str | None]:
        """Return the session, and why it is over if it is."""
        try:
            session = await self._sessions.load(self._entry.sid)
        except NotFound:
            return None, _GONE
        return session, session.over(await self._planes.events.now_ms())

    async def _is_mine(self) -> bool:
        return bool(await self._planes.events.beat(self._kind, self._worker, [self._entry.id]))

    async def _is_mine_surely(self) -> bool:
        """Ask until the server answers."""
        while not self._draining:
            try:
                return await self._is_mine()
            except BusUnavailable:
                await asyncio.sleep(_BACKOFF_S)
        raise Drained(self._entry.sid)

    async def _end(self, reason: str) -> None:
        if reason != _GONE:
            await self._sessions.end(self._entry.sid, reason)

    async def _finish(self, reason: str) -> None:
        await self._end(reason)  # again: keys that work in flight wrote since then expire too
        await self._planes.events.retire(self._kind, self._worker, self._entry.id)
        self._log.info("session over", reason=reason)
