"""Runs one kind of work: claims sessions, keeps their leases, takes over dead owners' sessions, drains on request.

    unclaimed ──claim──► held ──beat──► held ──session over──► retired
                          │ ▲
          beat says lost, │ │ take over, once the owner has been silent for lease_ms
          or drained      ▼ │
                         free

The pending entry of the work stream is the lease; the epoch raised on claiming fences every older owner off the output
streams. A worker that was frozen finds out at its next beat or publish, whichever comes first, and lets go.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from schemas.bus.base import Planes, WorkEntry
from schemas.clock import Clock
from schemas.errors import BusUnavailable
from schemas.names import Kind
from schemas.session_store import SessionStore
from schemas.task import TaskFactory
from workers.runner_session import Drained, SessionService
from workers.runner_settings import RunnerSettings

log = structlog.get_logger(__name__)

_BACKOFF_S = 0.25


@dataclass(slots=True)
class _Held:
    entry: WorkEntry
    service: SessionService
    running: asyncio.Task[None]


class Runner:
    """One worker process's share of one kind of work."""

    def __init__(
        self,
        kind: Kind,
        *,
        worker: str,
        planes: Planes,
        sessions: SessionStore,
        factory: TaskFactory,
        clock: Clock,
        settings: RunnerSettings,
    ) -> None:
        """Prepare; nothing is claimed before `run`. `worker` is unique among all workers, ever."""
        self._kind, self._worker, self._planes = kind, worker, planes
        self._sessions, self._factory, self._clock, self._settings = sessions, factory, clock, settings
        self._held: dict[str, _Held] = {}
        self._no_take_over_before_us = 0
        self._polled_us = 0

    @property
    def holding(self) -> list[str]:
        """IDs of the sessions held now."""
        return list(self._held)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain: finish what is in flight and hand every session over at once."""
        beating = asyncio.create_task(self._keep_beating(), name="beat")
        self._polled_us = self._clock.monotonic_us()
        try:
            while not stop.is_set():
                if beating.done():
                    beating.result()  # a worker that cannot beat loses everything it holds: better to end, and say why
                claimed = await self._claim_one()
                if not claimed:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), self._settings.poll_ms / 1000)
            await self._drain()
        finally:
            beating.cancel()
            for held in self._held.values():
                held.running.cancel()
            await asyncio.gather(beating, *(held.running for held in self._held.values()), return_exceptions=True)

    async def _claim_one(self) -> bool:
        # From the last poll, not from this question: a process that slept between two polls may get this answer
        # before its beat notices.
        due_us, self._polled_us = self._polled_us + self._settings.poll_ms * 1000, self._clock.monotonic_us()
        self._note_stall(due_us)
        if len(self._held) >= self._settings.capacity:
            return False
        try:
            entry = await self._planes.events.claim(self._kind, self._worker)
            self._note_stall(self._polled_us)
            if entry is None and self._clock.monotonic_us() >= self._no_take_over_before_us:
                entry = await self._planes.events.take_over(self._kind, self._worker, idle_ms=self._settings.lease_ms)
        except BusUnavailable as error:
            log.warning("claim failed", kind=self._kind, error=str(error))
            self._wait_for_owners()
            await asyncio.sleep(_BACKOFF_S)
            return False
        if entry is None or entry.sid in self._held:
            return False
        service = SessionService(
            self._kind,
            entry,
            worker=self._worker,
            planes=self._planes,
            sessions=self._sessions,
            factory=self._factory,
            clock=self._clock,
            settings=self._settings,
        )
        running = asyncio.create_task(self._serve(entry, service), name=f"{self._kind}:{entry.sid}")
        self._held[entry.sid] = _Held(entry, service, running)
        return True

    async def _serve(self, entry: WorkEntry, service: SessionService) -> None:
        """Drive one session until it is over, lost or drained."""
        try:
            await service.run()
        except Drained:
            await self._hand_over(entry)
        except Exception:
            # A defect in one task must cost one session a takeover, never the worker its other sessions.
            log.exception("session task failed", kind=self._kind, sid=entry.sid)
            await asyncio.sleep(_BACKOFF_S)
            await self._hand_over(entry)
        finally:
            self._held.pop(entry.sid, None)

    async def _hand_over(self, entry: WorkEntry) -> None:
        with contextlib.suppress(BusUnavailable):  # then the lease runs out instead
            await self._planes.events.hand_over(self._kind, self._worker, entry.id, idle_ms=self._settings.lease_ms)

    async def _keep_beating(self) -> None:
        beaten_us = self._clock.monotonic_us()
        while True:
            await asyncio.sleep(self._settings.beat_ms / 1000)
            self._note_stall(beaten_us)  # at once: a claim is under way too, and its answer may come before the beat's
            held = {item.entry.id: item for item in self._held.values()}
            try:
                mine = await self._planes.events.beat(self._kind, self._worker, list(held))
            except BusUnavailable as error:
                log.warning("beat failed", kind=self._kind, error=str(error))
                self._wait_for_owners()
                continue
            for entry_id in held.keys() - mine:
                log.warning("lease lost", kind=self._kind, sid=held[entry_id].entry.sid)
                held[entry_id].running.cancel()
            self._note_stall(beaten_us)
            beaten_us = self._clock.monotonic_us()

    def _note_stall(self, since_us: int) -> None:
        """After a stall, of the server or of this process, every lease looks expired."""
        if self._clock.monotonic_us() - since_us > self._settings.lease_ms * 1000 // 2:
            self._wait_for_owners()

    def _wait_for_owners(self) -> None:
        """Give owners a lease's time to beat before anything is taken over from them."""
        self._no_take_over_before_us = self._clock.monotonic_us() + self._settings.lease_ms * 1000

    async def _drain(self) -> None:
        for held in self._held.values():
            held.service.drain()
        running = [held.running for held in self._held.values()]
        if running:
            _, late = await asyncio.wait(running, timeout=self._settings.drain_ms / 1000)
            if late:
                log.warning("drain ran out of time", kind=self._kind, sessions=len(late))
