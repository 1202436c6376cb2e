"""Follows the event streams of one session, or of all live ones, as entries are added."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.bus.base import Entry, Planes
from schemas.errors import BusUnavailable, NotFound
from schemas.ids import ZERO, EntryId
from schemas.names import SessionKeys
from schemas.session_store import SessionStore

STREAMS = ("metrics", "policy", "control")
_PAGE = 500
_BLOCK_MS = 500
_LOOK_S = 0.5
"""How often new and ended sessions are looked for."""
_QUIET_S = 1.0
"""An ended session is done when it has said nothing for so long: outcomes of what was in flight follow its end."""
_PATIENCE_S = 30.0
_RETRY_S = 0.5


class Tailed(NamedTuple):
    """One entry of one session's stream."""

    sid: str
    stream: str
    entry: Entry


Start = Mapping[str, EntryId]
"""Stream → the ID after which to begin."""


@dataclass
class _Followed:
    """One session that is being followed: where each of its streams was read to."""

    sid: str
    cursors: dict[str, EntryId]
    keys: dict[str, str] = field(default_factory=dict)
    over_at: float | None = None
    """When it was found to have ended, or said something after that; None while it lives."""

    def __post_init__(self) -> None:
        """Name the keys of the streams."""
        keys = SessionKeys(self.sid)
        self.keys = {str(getattr(keys, stream)): stream for stream in self.cursors}


class Tail:
    """Reads forward from a cursor for each stream: nothing is lost or doubled, also while the server is away."""

    def __init__(
        self, planes: Planes, streams: Sequence[str], start: Start | None, *, away: Callable[[BusUnavailable], None]
    ) -> None:
        """Follow `streams` after `start`; None begins at a session's start. `away` is told when nobody answers."""
        self._events, self._store = planes.events, SessionStore(planes)
        self._streams, self._start, self._away = tuple(streams), start, away
        self._followed: dict[str, _Followed] = {}
        self._looked_at = 0.0

    async def one(self, sid: str) -> AsyncIterator[Tailed]:
        """Yield a session's entries until it has ended and is quiet; raises `NotFound` when there is none."""
        await self._store.load(sid)
        self._add(sid, self._start or {})
        while self._followed:
            async for tailed in self._turn():
                yield tailed

    async def every(self) -> AsyncIterator[Tailed]:
        """Yield the entries of all live sessions, for ever: of new ones from their start.

        Of those that live already, from `start` on; None leaves out what they said so far.
        """
        for sid in await self._store.live():
            self._add(sid, await self._now(sid) if self._start is None else self._start)
        while True:
            async for tailed in self._turn(everyone=True):
                yield tailed

    def _add(self, sid: str, start: Start) -> None:
        self._followed[sid] = _Followed(sid, {stream: start.get(stream, ZERO) for stream in self._streams})

    async def _now(self, sid: str) -> Start:
        keys = SessionKeys(sid)
        return {stream: await self._events.last_id(str(getattr(keys, stream))) for stream in self._streams}

    async def _turn(self, *, everyone: bool = False) -> AsyncIterator[Tailed]:
        """Read once what is there or comes within a moment; look now and then who lives."""
        found = await self._patiently(everyone=everyone)
        for followed in list(self._followed.values()):
            news = False
            for key, stream in followed.keys.items():
                for entry in found.get(key, ()):
                    news = True
                    followed.cursors[stream] = entry.id
                    yield Tailed(followed.sid, stream, entry)
            if followed.over_at is not None:
                now = asyncio.get_running_loop().time()
                followed.over_at = now if news else followed.over_at
                if now - followed.over_at > _QUIET_S:
                    del self._followed[followed.sid]

    async def _patiently(self, *, everyone: bool) -> dict[str, list[Entry]]:
        loop = asyncio.get_running_loop()
        due: float | None = None
        while True:
            try:
                if loop.time() - self._looked_at > _LOOK_S:
                    await self._look(everyone=everyone)
                    self._looked_at = loop.time()
                return await self._read()
            except BusUnavailable as error:
                if due is None:
                    due = loop.time() + _PATIENCE_S
                    self._away(error)
                if loop.time() > due:
                    raise
                await asyncio.sleep(_RETRY_S)

    async def _read(self) -> dict[str, list[Entry]]:
        cursors = {
            key: followed.cursors[stream]
            for followed in self._followed.values()
            for key, stream in followed.keys.items()
        }
        if not cursors:
            await asyncio.sleep(_BLOCK_MS / 1000)
            return {}
        return await self._events.read(cursors, count=_PAGE, block_ms=_BLOCK_MS)

    async def _look(self, *, everyone: bool) -> None:
        if everyone:
            live = await self._store.live()
            for sid in live:
                if sid not in self._followed:
                    self._add(sid, {})
            gone = set(self._followed) - set(live)
        else:
            gone = {sid for sid in self._followed if await self._ended(sid)}
        for sid in gone:
            if self._followed[sid].over_at is None:
                self._followed[sid].over_at = asyncio.get_running_loop().time()

    async def _ended(self, sid: str) -> bool:
        try:
            return (await self._store.load(sid)).ended is not None
        except NotFound:
            return True


def parse_start(given: Sequence[str], streams: Sequence[str]) -> dict[str, EntryId] | None:
    """Read `--from` values: `ID` for every stream, or `stream:ID` for one; None when none is given.

    `0` is before everything. Raises ValueError that says what is accepted.
    """
    start: dict[str, EntryId] = {}
    for value in given:
        match = re.fullmatch(r"(?:(\w+):)?(\d{1,20})(?:-(\d{1,20}))?", value)
        if match is None or (match[1] and match[1] not in streams):
            raise ValueError(f"{value!r}: expected <ms>-<n>, or <stream>:<ms>-<n> with one of {', '.join(streams)}")
        found = EntryId(int(match[2]), int(match[3] or 0))
        start |= {match[1]: found} if match[1] else dict.fromkeys(streams, found)
    return start if given else None
