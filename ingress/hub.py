"""The sessions that this process serves connections of: their feeds, and who publishes."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ingress.background import OnFatal
from ingress.egress import SessionFeed
from ingress.limits import ConnectionLimits
from ingress.settings import RateLimits
from schemas.bus.base import Planes
from schemas.clock import Clock
from schemas.errors import Throttled
from schemas.session_store import SessionRecord

_REMEMBERED = 4_096
"""Sessions whose limits are kept: many times what a process serves, so those that are forgotten are full again."""


class Replaceable(Protocol):
    """A publishing connection."""

    def replaced(self) -> None:
        """Learn that a newer publisher has taken over. Does not wait."""
        ...


@dataclass(slots=True)
class _Place:
    feed: SessionFeed
    users: int = 0
    started: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    publisher: Replaceable | None = None


class Hub:
    """One per process."""

    def __init__(self, planes: Planes, clock: Clock, *, max_connections: int, on_fatal: OnFatal) -> None:
        """Allow `max_connections` to each session; a feed that fails calls `on_fatal`."""
        self._planes, self._clock, self._max, self._on_fatal = planes, clock, max_connections, on_fatal
        self._places: dict[str, _Place] = {}
        self._limits: OrderedDict[str, ConnectionLimits] = OrderedDict()

    @asynccontextmanager
    async def feed(self, record: SessionRecord) -> AsyncIterator[SessionFeed]:
        """Lend the session's feed: the first user starts it, the last one stops it.

        Raises `Throttled` when too many use it already, `BusUnavailable` when it cannot start.
        """
        sid = record.sid
        place = self._places.get(sid)
        if place is None:
            place = self._places[sid] = _Place(SessionFeed(record, self._planes, self._clock, self._on_fatal))
        if place.users >= self._max:
            raise Throttled(f"session {sid} has {self._max} connections already", retry_after_ms=5_000)
        place.users += 1
        try:
            async with place.lock:
                if not place.started:
                    await place.feed.start()
                    place.started = True
            yield place.feed
        finally:
            place.users -= 1
            if not place.users:
                del self._places[sid]
                await place.feed.stop()

    def limits(self, sid: str, rates: RateLimits) -> ConnectionLimits:
        """Return the session's limits, of publishing and of connecting: whoever comes again finds them as they were."""
        found = self._limits.pop(sid, None) or ConnectionLimits(rates, self._clock)
        self._limits[sid] = found
        if len(self._limits) > _REMEMBERED:
            self._limits.popitem(last=False)
        return found

    def publishes(self, sid: str, connection: Replaceable) -> None:
        """Note the newest publisher; the one before it, if it is of this process, is told at once."""
        place = self._places[sid]
        before, place.publisher = place.publisher, connection
        if before is not None:
            before.replaced()

    def leaves(self, sid: str, connection: Replaceable) -> None:
        """Forget a publisher that goes away."""
        place = self._places[sid]
        if place.publisher is connection:
            place.publisher = None
