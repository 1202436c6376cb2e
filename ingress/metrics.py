"""Events and facts, written beside the media path: queued in memory, appended in batches, never waited for."""

import asyncio
import contextlib
from collections import deque

import structlog

from schemas.bus.base import Bus
from schemas.errors import BusUnavailable
from schemas.events import EVENT
from schemas.message import Message, encode

MAX_QUEUED = 10_000
_MAX_BATCH = 500
_RETRY_S = 0.5

log = structlog.get_logger(__name__)


class EventWriter:
    """Appends events in the order in which they were put, as long as the events plane answers.

    While it does not, events wait; beyond `MAX_QUEUED` the oldest are lost and counted in `lost`. A batch whose
    outcome is unknown is written again: events carry producer and sequence, so a reader recognises the second copy.
    """

    def __init__(self, events: Bus) -> None:
        """Write to the events plane."""
        self._events = events
        self._queue: deque[tuple[str, bytes]] = deque()
        self._news = asyncio.Event()
        self.lost = 0

    def put(self, stream: str, event: Message) -> None:
        """Queue an event for `stream`. Does not wait."""
        if len(self._queue) >= MAX_QUEUED:
            self._queue.popleft()
            self.lost += 1
        self._queue.append((stream, encode(event)))
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._flush()
            except BusUnavailable as error:
                log.warning("metric events wait", count=len(self._queue), error=str(error))
                await asyncio.sleep(_RETRY_S)
                self._news.set()

    async def drain(self) -> None:
        """Write what is queued, once; gives up when the events plane does not answer."""
        with contextlib.suppress(BusUnavailable):
            await self._flush()

    async def _flush(self) -> None:
        while self._queue:
            stream = self._queue[0][0]
            batch: list[tuple[str, bytes]] = []
            while self._queue and self._queue[0][0] == stream and len(batch) < _MAX_BATCH:
                batch.append(self._queue.popleft())
            try:
                await self._events.append_all(stream, [{EVENT: event} for _, event in batch])
            except BaseException:
                self._queue.extendleft(reversed(batch))
                raise
