"""Limits below the application, where uvicorn has none: what one connection may cost before we see a message of it.

Passed to uvicorn as `http=` and `ws=`. Without them (measured on 0.54) empty continuation frames on one connection
stalled the ingress for 7.8 s, pings whose answers are never read cost 180 MB in 6 s, endless request headers 200 MB,
and a request that never ends was never closed.

A connection over a limit is cut. A WebSocket gets a close frame 1008 with the reason if it can still take one; a
client that goes on sending often sees only the reset. HTTP gets 431 for its headers, and no answer for the rest.

The classes lean on parts of uvicorn that are not its public interface. `tests/ops/test_transport_guards.py` names each
of them, and the minor version they were read in; on an upgrade, read them again before changing it there.
"""

import asyncio
from asyncio import TimerHandle
from asyncio.transports import BaseTransport, Transport
from typing import cast

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame, Opcode

from ingress.buckets import Bucket
from schemas.clock import SystemClock
from schemas.errors import Throttled

log = structlog.get_logger(__name__)

_CLOCK = SystemClock()
_POLICY_VIOLATION = 1008


def _bucket(name: str, rate_and_burst: tuple[float, float]) -> Bucket:
    rate, burst = rate_and_burst
    return Bucket(name, rate, burst, now_us=_CLOCK.monotonic_us())


class _Sweep:
    """Drops a connection whose peer takes nothing of what waits for it.

    Closing a transport waits until its buffer is sent, for as long as the peer likes; so does a sender on a full one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: Transport, every_s: float) -> None:
        self._loop, self._transport, self._every_s = loop, transport, every_s
        self._full = False
        self._waiting: int | None = None
        """Bytes in the buffer at the last look, if they kept somebody waiting."""
        self._timer = loop.call_later(every_s, self._look)

    def full(self, value: bool) -> None:  # noqa: FBT001 - a state, not an option
        self._full, self._waiting = value, None

    def _look(self) -> None:
        waiting = self._transport.get_write_buffer_size() if self._full or self._transport.is_closing() else None
        if waiting is not None and self._waiting is not None and waiting >= self._waiting:
            self._transport.abort()
            return
        self._waiting = waiting
        self._timer = self._loop.call_later(self._every_s, self._look)

    def stop(self) -> None:
        self._timer.cancel()


class GuardedHttp(HttpToolsProtocol):
    """HTTP whose headers are small and come soon, whose bodies end, and of which only so many connections are open.

    Idle keep-alive connections are uvicorn's to close (`timeout_keep_alive`).
    """

    HEADER_BYTES = 16 << 10
    """Of one request; also of what is between or after the pieces of a chunked body."""
    HEADER_S = 5.0
    BODY_S = 120.0
    """The largest upload that we take, a 24 MB recording, fits in it at 1.7 Mbit/s."""
    PIPELINED = 16
    """Requests that wait for the answer to an earlier one. Browsers never pipeline."""
    CONNECTIONS = 512
    """Of this process, WebSockets included."""
    SWEEP_S = 30.0

    _sweep: _Sweep | None = None
    _due: TimerHandle | None = None
    _in_headers = True
    _silent_bytes = 0
    """What was fed to the parser since it last made anything of it."""
    _upgraded = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override] # as uvicorn declares it
        """Take the connection, unless there are too many; its first headers are due."""
        super().connection_made(transport)
        if len(self.connections) > self.CONNECTIONS:
            transport.abort()
            return
        self._sweep = _Sweep(self.loop, transport, self.SWEEP_S)
        self._expect_within(self.HEADER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse in pieces that stay within the header limit, so that it holds whatever the read size is."""
        if self._in_headers and self._due is None:  # the first bytes on an idle keep-alive connection
            self._expect_within(self.HEADER_S)
        while data and not self._upgraded and not self.transport.is_closing():
            size = self.HEADER_BYTES - self._silent_bytes
            piece, data = data[:size], data[size:]
            self._silent_bytes += len(piece)
            super().data_received(piece)
            if self._silent_bytes >= self.HEADER_BYTES:
                self._refuse_headers()
            elif len(self.pipeline) > self.PIPELINED:
                self._cut("too many pipelined requests")

    def on_headers_complete(self) -> None:
        """Turn from the header's deadline to the body's."""
        self._silent_bytes, self._in_headers = 0, False
        self._expect_within(self.BODY_S)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Note that the parser made something of what it got."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing until the next request begins."""
        self._silent_bytes, self._in_headers = 0, True
        self._expect_within(None)
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to `GuardedWebSocket`; what came before its answer is dropped, as by uvicorn."""
        self._upgraded = True
        self._stop_timers()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Note that the client reads too slowly."""
        super().pause_writing()
        if self._sweep is not None:
            self._sweep.full(True)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        if self._sweep is not None:
            self._sweep.full(False)

    def _expect_within(self, seconds: float | None) -> None:
        if self._due is not None:
            self._due.cancel()
        self._due = None if seconds is None else self.loop.call_later(seconds, self._cut, "request is not complete")

    def _stop_timers(self) -> None:
        self._expect_within(None)
        if self._sweep is not None:
            self._sweep.stop()

    def _refuse_headers(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._cut("headers too large")  # inside or behind another request: an answer here would be mistaken
            return
        if not self.transport.is_closing():
            answer = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(answer)
            self.transport.close()

    def _cut(self, reason: str) -> None:
        log.info("HTTP connection cut", reason=reason, client=self.client)
        self.transport.abort()


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket with budgets for everything that costs us something before the application sees a message.

    They lie well above what the application's own limits let a client send, which answer with a proper error: here
    are 70 to 130 messages a second, and what gathers in a stall of some seconds.
    """

    BYTES = 8e6, 16e6
    """A second, and at once."""
    FRAMES = 600, 1200
    CONTROL_FRAMES = 10, 40
    FRAGMENTS = 64
    """Of one message."""
    QUEUED = 1024
    """Messages that the application has not taken yet. uvicorn stops reading at the first; this many are in one read
    of 256 KB only if they are tiny."""
    UNREAD_BYTES = 4 << 20
    """What waits to be sent when we are asked to answer another ping."""
    SLICE = 4 << 10
    """What is parsed before we count: the parser takes all it gets, and a read may hold 40 000 empty frames."""
    SWEEP_S = 30.0

    _sweep: _Sweep
    _cut_off = False
    _fragments = 0

    def connection_made(self, transport: BaseTransport) -> None:
        """Start with full budgets."""
        super().connection_made(transport)
        self._sweep = _Sweep(self.loop, cast("Transport", transport), self.SWEEP_S)
        self._bytes = _bucket("data (bytes)", self.BYTES)
        self._frames = _bucket("frames", self.FRAMES)
        self._control = _bucket("control frames", self.CONTROL_FRAMES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._sweep.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count bytes, and parse in slices so that the rest can be refused."""
        try:
            self._bytes.take(len(data), now_us=_CLOCK.monotonic_us())
        except Throttled as error:
            self._cut(str(error))
        for start in range(0, len(data), self.SLICE):
            if self._cut_off or self.transport.is_closing():
                return
            super().data_received(data[start : start + self.SLICE])
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                # A header that the HTTP parser took and this one does not: uvicorn forgets to send the refusal.
                self.transport.write(b"".join(self.conn.data_to_send()))
                self.transport.close()

    def handle_events(self) -> None:
        """Count the frames of a slice before uvicorn handles them."""
        excess = self._excess([event for event in self.conn.events if isinstance(event, Frame)])
        if excess is not None:
            self._cut(excess)
            return
        super().handle_events()
        if self.queue.qsize() > self.QUEUED:
            self._cut("too many messages at once")

    def pause_writing(self) -> None:
        """Note that the client reads too slowly."""
        super().pause_writing()
        self._sweep.full(True)

    def resume_writing(self) -> None:
        """Note that the client reads again."""
        super().resume_writing()
        self._sweep.full(False)

    def _excess(self, frames: list[Frame]) -> str | None:
        """Count the frames; returns what there is too much of."""
        now_us = _CLOCK.monotonic_us()
        try:
            self._frames.take(len(frames), now_us=now_us)
            for frame in frames:
                if frame.opcode in (Opcode.PING, Opcode.PONG):
                    self._control.take(1, now_us=now_us)
                elif frame.opcode is not Opcode.CLOSE:
                    self._fragments = self._fragments + 1 if frame.opcode is Opcode.CONT else 1
                    if self._fragments > self.FRAGMENTS:
                        return f"a message in more than {self.FRAGMENTS} fragments"
        except Throttled as error:
            return str(error)
        pinged = any(frame.opcode is Opcode.PING for frame in frames)
        if pinged and self.transport.get_write_buffer_size() > self.UNREAD_BYTES:
            return "answers to pings are not read"
        return None

    def _cut(self, reason: str) -> None:
        if self._cut_off or self.transport.is_closing():
            return
        log.info("WebSocket cut", reason=reason, client=self.client)
        self._cut_off = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": _POLICY_VIOLATION, "reason": reason})
        self.conn.fail(_POLICY_VIOLATION, reason)
        # For the application the client is gone: its sends must raise what they raise then, not complain about order.
        self.close_sent = self.disconnected = True
        self.read_paused = False
        self.writable.set()
        if self.transport.get_write_buffer_size() == 0 and self.handshake_complete:
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()
        else:
            self.transport.abort()
