"""The upgrade to a session's WebSocket: everything that is checked before `101 Switching Protocols`."""

import re
from contextlib import AsyncExitStack

import structlog
from fastapi import APIRouter
from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from ingress.auth import check_origin, from_upgrade
from ingress.connection import Connection
from ingress.failures import ScopeMissing, body_of, headers_of, session_ended, status_of
from ingress.peer import Peer
from ingress.publisher import open_publisher
from ingress.services import Services
from ingress.tokens import PUBLISHING, Claims, Scope
from schemas.errors import MirageError, NotFound
from schemas.names import SessionKeys
from schemas.session_store import Session

log = structlog.get_logger(__name__)

_SID = re.compile(r"[0-9a-f]{32}")


def stream_router(services: Services) -> APIRouter:
    """Return the route of the WebSocket."""
    router = APIRouter()

    @router.websocket("/v1/sessions/{sid}/stream")
    async def stream(websocket: WebSocket, sid: str) -> None:
        async with AsyncExitStack() as stack:
            try:
                connection = await _admit(websocket, sid, services, stack)
            except MirageError as error:
                known = sid if _SID.fullmatch(sid) else None  # anything else may hold what a terminal obeys
                log.info("upgrade refused", sid=known, code=error.code, detail=str(error))
                answer = JSONResponse(body_of(error), status_of(error), headers_of(error))
                await websocket.send_denial_response(answer)
                return
            await connection.run()

    return router


async def _admit(websocket: WebSocket, sid: str, services: Services, stack: AsyncExitStack) -> Connection:
    """Check the upgrade, spend its token, and take the session over if it publishes.

    Raises a `MirageError` before anything is changed, except by a media plane that goes away in between.
    """
    claims, session = await _check(websocket, sid, services)
    feed = await stack.enter_async_context(services.hub.feed(session.record))
    if feed.ended is not None:
        raise session_ended(sid, feed.ended)  # its decisions or facts say so, the record does not yet
    await services.authority.spend(claims)
    publisher = None
    if claims.scopes & PUBLISHING:
        publisher = await open_publisher(
            keys=SessionKeys(sid),
            media=services.planes.media,
            feed=feed,
            settings=services.settings,
            clock=services.clock,
        )
    peer = Peer(record=session.record, claims=claims, feed=feed, publisher=publisher, services=services)
    return Connection(websocket, peer)


async def _check(websocket: WebSocket, sid: str, services: Services) -> tuple[Claims, Session]:
    check_origin(websocket.headers, services.settings.allowed_origins)
    token = from_upgrade(websocket.headers, websocket.scope.get("subprotocols", []))
    claims = await services.authority.connect(token, sid)
    if not claims.scopes & {*PUBLISHING, Scope.SUBSCRIBE}:
        raise ScopeMissing("a connection needs a token that may publish or subscribe")
    if _SID.fullmatch(sid) is None:
        raise NotFound("no such session")
    session = await services.sessions.load(sid)
    reason = session.over(await services.planes.events.now_ms())
    if reason is not None:
        raise session_ended(sid, reason)
    return claims, session
