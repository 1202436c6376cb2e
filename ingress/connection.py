"""One WebSocket of one session, from `ready` to `bye`.

One task each: receiving never waits for the media plane, publishing drains what was received, sending drains the
outbox, and watches look at the token's time, at what other nodes did, and at a publisher's flow. The first thing that
ends it decides how.
"""

import asyncio
import json
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from ingress.egress import Output
from ingress.inbound import Inbound
from ingress.params import StreamParams
from ingress.peer import GONE, INTERNAL, Peer
from ingress.tokens import Scope
from ingress.watch import await_return, end_of_session, watch_flow, watch_rights, watch_time
from schemas.wire import PROTOCOL, Close, MediaType

log = structlog.get_logger(__name__)

_GOODBYE_S = 1.0


class Connection:
    """Runs a peer's WebSocket. It is the feed's `Listener`, and the hub's `Replaceable`."""

    def __init__(self, websocket: WebSocket, peer: Peer) -> None:
        """Prepare; nothing is sent before `run`."""
        self._websocket, self._peer = websocket, peer
        self._inbound = Inbound(peer)
        self._told: StreamParams | None = None

    async def run(self) -> None:
        """Serve the client until either side ends it."""
        peer, hub, sid = self._peer, self._peer.services.hub, self._peer.record.sid
        await self._websocket.accept(subprotocol=PROTOCOL)
        state = peer.feed.in_force  # from here to `add` nothing waits: no decision is missed in between
        peer.tell({"type": "ready", "sid": sid, "params": state.params.as_json(), "panic": peer.feed.panic})
        self._told = state.params
        peer.feed.add(self)
        if peer.publisher is not None:
            hub.publishes(sid, self)
        loops = [self._receive(), self._send(), self._inbound.publish(), watch_time(peer), watch_rights(peer)]
        if peer.publisher is not None:
            loops.append(watch_flow(peer, peer.publisher))
        tasks = [asyncio.create_task(loop) for loop in loops]
        ends: list[asyncio.Future[Any]] = [peer.ending, *tasks]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            peer.feed.remove(self)
            if peer.publisher is not None:
                hub.leaves(sid, self)
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):
                    log.error("connection failed", sid=sid, exc_info=result)
            peer.finish(INTERNAL, "internal error")  # unless something else has ended it
        await self._part()

    def output(self, output: Output) -> None:
        """See `Listener.output`."""
        peer = self._peer
        if Scope.SUBSCRIBE not in peer.claims.scopes:
            return
        wire = output.wire
        if peer.publisher is not None:
            offset_us = peer.publisher.timeline.offset_us
            if output.sent is not None and output.sent.origin is peer.publisher:
                offset_us = output.sent.offset_us
            if offset_us is None:
                return  # from before this connection: it has no time for it
            wire = output.in_client_time(offset_us)
        if output.type is MediaType.VIDEO:
            peer.outbox.video(wire)
        else:
            peer.outbox.audio(wire)

    def blank(self) -> None:
        """See `Listener.blank`."""
        self._peer.outbox.clear_media()

    def in_force(self) -> None:
        """See `Listener.in_force`."""
        peer, state = self._peer, self._peer.feed.in_force
        if state.params != self._told:
            self._told = state.params
            peer.tell({"type": "params", **state.params.as_json()})

    def waiting(self) -> int:
        """See `Listener.waiting`."""
        return len(self._peer.outbox)

    def over(self, reason: str) -> None:
        """See `Listener.over`."""
        end_of_session(self._peer, reason)

    def replaced(self) -> None:
        """See `Replaceable.replaced`."""
        self._peer.finish(Close.REPLACED, "another connection publishes to this session now")

    async def _receive(self) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self._peer.finish(GONE, "client left")
                return
            data = message.get("bytes")
            if data is not None:
                self._inbound.binary(data)
            else:
                await self._inbound.text(message.get("text") or "")

    async def _send(self) -> None:
        try:
            while True:
                message = await self._peer.outbox.take()
                if isinstance(message, str):
                    await self._websocket.send_text(message)
                else:
                    await self._websocket.send_bytes(message)
        except WebSocketDisconnect:
            self._peer.finish(GONE, "client left")

    async def _part(self) -> None:
        """Say `bye` and close; what a client does not read within a second is not waited for."""
        peer = self._peer
        code, reason = peer.ending.result()
        log.info("connection ended", sid=peer.record.sid, code=code, reason=reason, publisher=bool(peer.publisher))
        if code != GONE:
            bye = json.dumps({"type": "bye", "code": code, "reason": reason}, separators=(",", ":"))
            try:
                async with asyncio.timeout(_GOODBYE_S):
                    await self._websocket.send_text(bye)
                    await self._websocket.close(code, reason[:100])
            except (TimeoutError, WebSocketDisconnect):
                log.info("client did not wait for the end", sid=peer.record.sid)
        if peer.publisher is not None and code != Close.REPLACED:
            peer.feed.release_panic()
            if peer.feed.ended is None:
                await await_return(peer)
