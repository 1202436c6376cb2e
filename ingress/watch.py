"""What goes on around one connection: its token's time, and what other nodes did to its session."""

import asyncio

import structlog

from ingress.failures import body_of
from ingress.peer import Peer
from ingress.publisher import Publisher
from schemas.errors import BusUnavailable, NotFound, Refused, Throttled
from schemas.events import Backlog, FrameThinned, TokenExpired
from schemas.session_store import ABANDONED
from schemas.wire import Close

log = structlog.get_logger(__name__)


def end_of_session(peer: Peer, reason: str) -> None:
    """End the connection because its session has."""
    peer.finish(Close.ABANDONED if reason == ABANDONED else Close.NORMAL, reason)


async def watch_time(peer: Peer) -> None:
    """Warn before the right to be connected ends, close when it does; report to the publisher. Asks no server."""
    settings, services = peer.services.settings, peer.services
    warned = 0
    while True:
        await asyncio.sleep(settings.tick_s)
        left_s = peer.claims.until - services.authority.now_s
        if left_s <= 0:
            if peer.publisher is not None:
                peer.note(TokenExpired(producer=peer.producer, seq=peer.next_seq()))
            peer.finish(Close.TOKEN, "the token has expired")
            return
        if left_s <= settings.expiry_warning_s and warned != peer.claims.until:
            warned = peer.claims.until
            peer.tell({"type": "expiring", "in_s": left_s})
        if peer.publisher is not None:
            peer.tell(peer.feed.status())
        _tell_losses(peer)


def _tell_losses(peer: Peer) -> None:
    lost, peer.lost = peer.lost, 0
    fault, peer.fault = peer.fault, None
    if not lost:
        return
    cause = fault or Throttled("the media plane is slow", retry_after_ms=1_000)
    body = body_of(cause)
    peer.tell({"type": "error", **body, "detail": f"{body['detail']}; {lost} messages were lost"})


async def watch_flow(peer: Peer, publisher: Publisher) -> None:
    """Report what waits for the session's clients here and what was thinned, every `report_s` and when it is over."""
    told = 0
    try:
        while True:
            await asyncio.sleep(peer.services.settings.report_s)
            peer.note(Backlog(producer=peer.producer, seq=peer.next_seq(), outbound=peer.feed.waiting()))
            told = _note_thinned(peer, publisher, told)
    finally:
        _note_thinned(peer, publisher, told)


def _note_thinned(peer: Peer, publisher: Publisher, told: int) -> int:
    if publisher.thinned > told:
        event = FrameThinned(producer=peer.producer, seq=peer.next_seq(), frames=publisher.thinned - told)
        peer.note(event)
    return publisher.thinned


async def watch_rights(peer: Peer) -> None:
    """Look every tick for a revoked token, a newer publisher and the session's end; push its deadline on."""
    settings, services = peer.services.settings, peer.services
    touched_us = services.clock.monotonic_us()
    while True:
        await asyncio.sleep(settings.tick_s)
        try:
            await services.authority.refuse_denied(peer.claims)
            if peer.publisher is not None and not await peer.publisher.current():
                peer.finish(Close.REPLACED, "another connection publishes to this session now")
            if services.clock.monotonic_us() - touched_us >= settings.touch_s * 1e6:
                touched_us = services.clock.monotonic_us()
                await _push_deadline(peer)
        except NotFound:
            peer.finish(Close.NO_SESSION, "the session is gone")
        except Refused as error:
            peer.finish(Close.TOKEN, str(error))
        except BusUnavailable as error:
            log.warning("cannot check rights", sid=peer.record.sid, error=str(error))


async def _push_deadline(peer: Peer) -> None:
    sessions, sid = peer.services.sessions, peer.record.sid
    now_ms = await peer.services.planes.events.now_ms()
    reason = (await sessions.load(sid)).over(now_ms)
    if reason is not None:
        await sessions.end(sid, reason)
        end_of_session(peer, reason)
    elif peer.traffic:
        peer.traffic = False
        await sessions.touch(sid, deadline_ms=now_ms + peer.services.settings.idle_s * 1000)


async def await_return(peer: Peer) -> None:
    """Give a publisher that went away `resume_s` to come back."""
    sessions, sid = peer.services.sessions, peer.record.sid
    try:
        now_ms = await peer.services.planes.events.now_ms()
        if (await sessions.load(sid)).over(now_ms) is None:
            await sessions.touch(sid, deadline_ms=now_ms + peer.services.settings.resume_s * 1000)
    except (BusUnavailable, NotFound) as error:
        log.warning("cannot keep the session open", sid=sid, error=str(error))
