"""Follows a session's decisions and facts while a task works on its media."""

import asyncio
from collections.abc import Callable

import structlog

from schemas.decisions import Abandon, DropVideoUntil, SoftSkip, policy_decisions
from schemas.errors import BusUnavailable, CodecError
from schemas.events import EVENT, SessionEnded
from schemas.facts import SettingsChanged, control_facts
from schemas.ids import ZERO, EntryId
from schemas.task import Lease

log = structlog.get_logger(__name__)

_BLOCK_MS = 1_000
_BACKOFF_S = 0.25
_BLIND_US = 1_750_000  # a revocation stops output within two seconds


class SessionWatch:
    """What is in force for the session, kept up to date in the background.

    A task reads `floor_us`, `soft_skip_of` and `ended` before each frame, so that neither inference nor publication
    happens against an order that has arrived. Decisions that are for others are passed over.
    """

    def __init__(self, lease: Lease, *, on_settings: Callable[[SettingsChanged], None]) -> None:
        """Watch the lease's session; `on_settings` is called for each live change, oldest first."""
        self._lease, self._on_settings = lease, on_settings
        self._cursors = {lease.keys.policy: ZERO, lease.keys.control: ZERO}
        self._task: asyncio.Task[None] | None = None
        self.floor_us: int | None = None
        self.soft_skip_of = 0
        self.ended = False

    async def start(self) -> None:
        """Catch up with what is already there, then follow."""
        while await self._read(block_ms=None):
            pass
        self._task = asyncio.create_task(self._follow(), name=f"watch:{self._lease.keys.sid}")

    def check(self) -> None:
        """Raise what ended the watch, if it ended: nobody publishes without hearing of a revocation."""
        if self._task is not None and self._task.done():
            self._task.result()
            raise RuntimeError("the watch ended by itself")

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        clock, seen_us = self._lease.clock, self._lease.clock.monotonic_us()
        while True:
            try:
                await self._read(block_ms=_BLOCK_MS)
                seen_us = clock.monotonic_us()
            except BusUnavailable as error:
                if clock.monotonic_us() - seen_us > _BLIND_US:  # whoever publishes must not go on blind
                    raise
                log.warning("watch lost the server", sid=self._lease.keys.sid, error=str(error))
                await asyncio.sleep(_BACKOFF_S)

    async def _read(self, *, block_ms: int | None) -> bool:
        found = await self._lease.planes.events.read(self._cursors, count=64, block_ms=block_ms)
        for stream, entries in found.items():
            for entry in entries:
                self._cursors[stream] = entry.id
                self._apply(stream, entry.id, entry.fields.get(EVENT, b""))
        return bool(found)

    def _apply(self, stream: str, entry_id: EntryId, data: bytes) -> None:
        try:
            message = (policy_decisions if stream == self._lease.keys.policy else control_facts).decode(data)
        except CodecError as error:
            # A newer writer's message: what it asks for is unknown here, so it is named and passed over.
            log.warning("unreadable message", stream=stream, id=str(entry_id), error=str(error))
            return
        match message:
            case DropVideoUntil(floor_us=floor_us):
                self.floor_us = floor_us if self.floor_us is None else max(self.floor_us, floor_us)
            case SoftSkip(of=of):
                self.soft_skip_of = of
            case SettingsChanged():
                self._on_settings(message)
            case SessionEnded() | Abandon():
                self.ended = True
