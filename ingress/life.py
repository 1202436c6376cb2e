"""The end of sessions that nobody ended."""

import asyncio

import structlog

from schemas.bus.base import Bus
from schemas.errors import BusUnavailable, CodecError, NotFound
from schemas.names import SESSIONS
from schemas.session_store import SessionStore

log = structlog.get_logger(__name__)


async def end_overdue(events: Bus, sessions: SessionStore) -> list[str]:
    """End every session past its deadline or its consent; returns their IDs. Raises `BusUnavailable`."""
    now_ms = await events.now_ms()
    ended = []
    for sid in await sessions.live():
        try:
            reason = (await sessions.load(sid)).over(now_ms)
        except NotFound:
            await events.drop_fields(SESSIONS, [sid.encode()])  # an index entry whose session is gone
            continue
        except CodecError as error:
            log.warning("unreadable session", sid=sid, error=str(error))
            continue
        if reason is not None and await sessions.end(sid, reason):
            log.info("session ended", sid=sid, reason=reason)
            ended.append(sid)
    return ended


async def sweep(events: Bus, sessions: SessionStore, *, every_s: float) -> None:
    """End overdue sessions until cancelled. Every ingress does; each session is ended once."""
    while True:
        await asyncio.sleep(every_s)
        try:
            await end_overdue(events, sessions)
        except BusUnavailable as error:
            log.warning("cannot look for overdue sessions", error=str(error))
