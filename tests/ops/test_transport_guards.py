"""A real uvicorn with the guards, attacked over raw sockets, and used as clients use it."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from ops.transport_guards import GuardedHttp, GuardedWebSocket
from tests.waiting import PATIENCE_S, until

VERIFIED_MINOR = "0.54"
"""The uvicorn whose sources the guards were written against."""

BIG = 64 << 20
"""Bytes; more than the kernel's buffers take."""

TEXT, BINARY, CONTINUATION, PING, PONG = 1, 2, 0, 9, 10
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


@dataclass
class App:
    """Echoes the size of what it gets."""

    port: int = 0
    messages: int = 0
    requests: int = 0
    reading: asyncio.Event = field(default_factory=asyncio.Event)
    ends: list[dict[str, Any]] = field(default_factory=list)
    server: uvicorn.Server | None = None

    async def holds(self, connections: int) -> bool:
        """Return whether the server has so many connections."""
        assert self.server is not None
        return len(self.server.server_state.connections) == connections

    async def served(self, requests: int) -> bool:
        """Return whether the server has taken so many requests."""
        return self.requests >= requests

    async def ended(self) -> bool:
        """Return whether a WebSocket has ended."""
        return bool(self.ends)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await {"lifespan": self._lifespan, "http": self._http, "websocket": self._websocket}[scope["type"]](
            scope, receive, send
        )

    async def _lifespan(self, _scope: Any, receive: Any, send: Any) -> None:
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})

    async def _http(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            size, more = size + len(message["body"]), message["more_body"]
        self.requests += 1
        body = str(size).encode() if scope["path"] == "/" else b"x" * BIG
        part = BIG if scope["path"] == "/big-at-once" else 1 << 20
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        for start in range(0, len(body), part):
            chunk = body[start : start + part]
            await send({"type": "http.response.body", "body": chunk, "more_body": start + part < len(body)})

    async def _websocket(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            await self.reading.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                self.ends.append(message)
                return
            self.messages += 1
            while message.get("text") == "endless":
                try:
                    await send({"type": "websocket.send", "bytes": bytes(1 << 20)})
                except OSError as gone:
                    self.ends.append({"error": gone})
                    raise
            await send({"type": "websocket.send", "text": str(len(message.get("bytes") or message.get("text") or ""))})


class Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(**limits: float) -> AsyncIterator[App]:
    """Serve with some of the guards' limits changed."""
    http = type("Http", (GuardedHttp,), {k: v for k, v in limits.items() if hasattr(GuardedHttp, k)})
    websocket = type(
        "WebSocket", (GuardedWebSocket,), {k: v for k, v in limits.items() if hasattr(GuardedWebSocket, k)}
    )
    app = App()
    app.reading.set()
    config = uvicorn.Config(
        app, log_level="error", ws=websocket, http=http, ws_per_message_deflate=False, timeout_graceful_shutdown=1
    )
    server = app.server = Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    app.port = listener.getsockname()[1]
    serve = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield app
    finally:
        server.should_exit = True
        await serve
        listener.close()


@pytest.fixture
async def app() -> AsyncIterator[App]:
    async with serving() as app:
        yield app


@dataclass
class Raw:
    """A TCP connection that keeps count."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sent: int = 0

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.sent += len(data)

    async def flood(self, data: bytes, *, at_most: int, pause_s: float = 0.0) -> None:
        """Send `data` until the server ends it or it has taken `at_most` bytes."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.sent < at_most:
                    await self.send(data)
                    await asyncio.sleep(pause_s)
        except ConnectionError:
            pass

    async def until_closed(self) -> bytes:
        """Return what the server still says; fails if it does not close."""
        got = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(1 << 16):
                    got += data
            except ConnectionError:
                pass
        return got


@asynccontextmanager
async def raw(app: App) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def raw_websocket(app: App) -> AsyncIterator[Raw]:
    async with raw(app) as attacker:
        await attacker.send(UPGRADE + b"\r\n")
        assert b"101 Switching" in await attacker.reader.readuntil(b"\r\n\r\n")
        attacker.sent = 0
        yield attacker


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + bytes(4) + payload


async def lives(app: App) -> None:
    """Check that others are served."""
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert (await client.get(f"http://127.0.0.1:{app.port}/")).text == "0"


# --- the internals that the guards lean on -------------------------------------------------------------------------


def test_uvicorn_is_the_one_that_was_read() -> None:
    minor = ".".join(uvicorn.__version__.split(".")[:2])
    assert minor == VERIFIED_MINOR, "read uvicorn's protocols again against ops/transport_guards.py, then change this"


async def test_uvicorn_has_what_the_guards_lean_on() -> None:
    overridden = {
        HttpToolsProtocol: {
            "connection_made", "connection_lost", "data_received", "on_headers_complete", "on_body",
            "on_message_complete", "handle_websocket_upgrade", "pause_writing", "resume_writing",
        },
        WebSocketsSansIOProtocol: {
            "connection_made", "connection_lost", "data_received", "handle_events", "stop_keepalive",
            "pause_writing", "resume_writing",
        },
    }  # fmt: skip
    read = {
        HttpToolsProtocol: {"connections", "cycle", "pipeline", "transport", "loop", "client"},
        WebSocketsSansIOProtocol: {
            "conn", "queue", "handshake_initiated", "handshake_complete", "close_sent", "disconnected", "read_paused",
            "writable", "transport", "loop", "client",
        },
    }  # fmt: skip
    config = uvicorn.Config(App(), log_level="error")
    config.load()
    for base, names in overridden.items():
        assert names <= vars(base).keys()
        protocol = base(config, uvicorn.server.ServerState(), {})
        assert read[base] <= vars(protocol).keys()
        ours = GuardedHttp if base is HttpToolsProtocol else GuardedWebSocket
        new = {name for name in vars(ours) if not name.startswith("__")} - names
        assert not [name for name in new if hasattr(protocol, name)], "a name of ours means something to uvicorn now"
    conn = WebSocketsSansIOProtocol(config, uvicorn.server.ServerState(), {}).conn
    assert conn.handshake_exc is None
    assert conn.events == []
    assert callable(conn.fail)


# --- HTTP ----------------------------------------------------------------------------------------------------------


async def test_endless_headers_are_refused(app: App) -> None:
    async with raw(app) as attacker:
        await attacker.send(b"GET / HTTP/1.1\r\nx: " + b"a" * GuardedHttp.HEADER_BYTES)
        assert (await attacker.until_closed()).startswith(b"HTTP/1.1 431 ")
    async with raw(app) as attacker:
        await attacker.send(b"GET / HTTP/1.1\r\n")
        await attacker.flood(b"a: b\r\n" * 1000, at_most=64 << 20)
        assert attacker.sent < 16 << 20  # what the kernel's buffers hold
    await lives(app)


async def test_headers_up_to_the_limit_are_served(app: App) -> None:
    head = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: "
    async with raw(app) as client:
        await client.send(head + b"a" * (GuardedHttp.HEADER_BYTES - len(head) - 4) + b"\r\n\r\n")
        assert (await client.until_closed()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begin", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"POST / HTTP/1.1\r\nhost: x\r\n"]
)
async def test_slow_headers_are_not_waited_for(begin: bytes) -> None:
    async with serving(HEADER_S=0.4) as app, raw(app) as attacker:
        await attacker.send(begin)
        began = time.monotonic()
        await attacker.flood(b"\r\n" if not begin or begin.endswith(b"\r\n\r\n") else b"x", at_most=1000, pause_s=0.05)
        assert time.monotonic() - began > 0.2
        assert attacker.sent < 1000, "the server did not end it"
        await lives(app)


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with serving(HEADER_S=0.3) as app, raw(app) as attacker:
        await attacker.until_closed()


async def test_a_body_that_does_not_end_is_not_waited_for() -> None:
    async with serving(BODY_S=0.4) as app, raw(app) as attacker:
        await attacker.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n")
        began = time.monotonic()
        await attacker.until_closed()
        assert time.monotonic() - began > 0.2


async def test_endless_trailers_are_refused(app: App) -> None:
    async with raw(app) as attacker:
        await attacker.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
        await attacker.flood(b"a: b\r\n" * 1000, at_most=64 << 20)
        assert attacker.sent < 16 << 20
    await lives(app)


async def test_a_flood_of_pipelined_requests_is_cut(app: App) -> None:
    async with raw(app) as attacker:
        await attacker.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 10_000)
        assert (await attacker.until_closed()).count(b"HTTP/1.1 200") < 100
    await lives(app)


@pytest.mark.parametrize("path", ["big", "big-at-once"])
async def test_an_answer_that_nobody_reads_is_not_kept(path: str) -> None:
    async with serving(SWEEP_S=0.3) as app, raw(app) as attacker:
        await attacker.send(b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n" % path.encode())
        await until(lambda: app.served(1), what="the request is taken")
        await until(lambda: app.holds(0), what="the connection is given up")
        assert len(await attacker.until_closed()) < BIG


@pytest.mark.parametrize("path", ["big", "big-at-once"])
async def test_an_answer_that_is_read_slowly_arrives(path: str) -> None:
    async with serving(SWEEP_S=0.3) as app, raw(app) as client:
        await client.send(b"GET /%b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n" % path.encode())
        size = 0
        while piece := await client.reader.read(1 << 20):
            size += len(piece)
            await asyncio.sleep(len(piece) / 32e6)
        assert size > BIG


async def test_connections_are_counted() -> None:
    async with serving(CONNECTIONS=3) as app:
        async with raw_websocket(app) as first, raw(app) as second, raw(app):
            async with raw(app) as extra:
                await extra.until_closed()
            await second.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await second.reader.readuntil(b"\r\n\r\n")
            await first.send(frame(TEXT, b"hello"))
            assert await first.reader.readexactly(3) == b"\x81\x015"
        await until(lambda: app.holds(0), what="all three have left")
        await lives(app)


async def test_requests_share_a_connection(app: App) -> None:
    async with raw(app) as client:
        for _ in range(3):
            await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await client.reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.1)


async def test_an_offer_of_another_protocol_is_ignored(app: App, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", "uvicorn.error")
    async with raw(app) as client:  # as `curl --http2` makes it
        await client.send(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        assert (await client.reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")


async def test_a_connection_idles_longer_than_headers_may_take() -> None:
    async with serving(HEADER_S=0.2) as app, raw(app) as client:
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await client.reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(0.6)


async def test_uploads_have_no_byte_budget(app: App) -> None:
    content = os.urandom(20 << 20)
    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        for _ in range(2):
            answer = await client.post(f"http://127.0.0.1:{app.port}/", files={"file": content})
            assert int(answer.text) > len(content)


async def test_uploads_may_come_in_chunks(app: App) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(2000):
            yield b"x" * 1000

    async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
        answer = await client.post(f"http://127.0.0.1:{app.port}/", content=chunks())
    assert answer.text == "2000000"


# --- WebSocket -----------------------------------------------------------------------------------------------------


async def test_a_handshake_that_the_second_parser_refuses_is_answered(app: App) -> None:
    async with raw(app) as client:
        await client.send(UPGRADE + b"x: " + b"a" * 9000 + b"\r\n\r\n")
        assert (await client.until_closed()).startswith(b"HTTP/1.1 431 ")


async def test_pings_whose_answers_nobody_reads_are_cut(app: App) -> None:
    async with raw_websocket(app) as attacker:
        await attacker.flood(frame(PING, b"x" * 125) * 100, at_most=64 << 20)
        assert attacker.sent < 16 << 20
    await lives(app)
    assert app.ends[0]["code"] == 1008


async def test_a_few_pings_too_many_are_told_why(app: App) -> None:
    async with raw_websocket(app) as attacker:
        await attacker.send(frame(PING) * 45)
        said = await attacker.until_closed()
        assert b"\x03\xf0too much control frames" in said
        assert app.ends[0]["code"] == 1008


async def test_empty_continuations_are_cut_at_the_limit(app: App) -> None:
    async with raw_websocket(app) as attacker:
        await attacker.send(frame(BINARY, b"ab", fin=False) + frame(CONTINUATION, fin=False) * 62)
        await attacker.send(frame(CONTINUATION))
        assert await attacker.reader.readexactly(3) == b"\x81\x012"
        await attacker.send(frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * 64)
        assert b"fragments" in await attacker.until_closed()
    async with raw_websocket(app) as attacker:
        await attacker.send(frame(BINARY, fin=False))
        await attacker.flood(frame(CONTINUATION, fin=False) * 40_000, at_most=64 << 20)
        assert attacker.sent < 16 << 20
    await lives(app)


@pytest.mark.parametrize("data", [frame(BINARY) * 5000, frame(PONG) * 5000, frame(TEXT, b"x" * 1000) * 100])
async def test_floods_of_frames_are_cut(app: App, data: bytes) -> None:
    async with raw_websocket(app) as attacker:
        reading = asyncio.create_task(attacker.until_closed())
        await attacker.flood(data, at_most=64 << 20)
        await reading
    assert app.messages <= 1200 + 600
    await lives(app)


async def test_a_flood_of_bytes_is_cut(app: App) -> None:
    async with raw_websocket(app) as attacker:
        reading = asyncio.create_task(attacker.until_closed())
        await attacker.flood(frame(BINARY, b"x" * 60_000), at_most=64 << 20)
        await reading
        assert attacker.sent < 32 << 20
    await lives(app)


async def test_messages_that_the_application_does_not_take_do_not_pile_up() -> None:
    async with serving(QUEUED=100) as app, raw_websocket(app) as attacker:
        app.reading.clear()
        await attacker.flood(frame(TEXT, b"x") * 500, at_most=1 << 20)
        await attacker.until_closed()
        app.reading.set()
        await lives(app)
        assert app.messages <= 100 + 4096 // 7  # one slice


async def test_a_client_that_never_reads_is_dropped() -> None:
    async with serving(SWEEP_S=0.3) as app, raw_websocket(app) as attacker:
        await attacker.send(frame(TEXT, b"endless"))
        await until(app.ended, what="the application sees the end")
        await attacker.until_closed()
        await lives(app)


async def chat(client: ClientConnection, messages: int, *, pause_s: float) -> None:
    """Send, with pings between, and read every answer."""

    async def read() -> None:
        for _ in range(messages):
            await client.recv()

    reading = asyncio.create_task(read())
    for number in range(messages):
        if number % 25 == 0:
            await (await client.ping())
        await client.send(b"x" * (60_000 if number % 5 == 0 else 1_920))
        await asyncio.sleep(pause_s)
    await asyncio.wait_for(reading, PATIENCE_S)


async def test_a_normal_client_lives(app: App) -> None:
    async with connect(f"ws://127.0.0.1:{app.port}", compression=None) as client:
        await chat(client, 100, pause_s=0.01)
    assert app.messages == 100


async def test_a_client_catches_up_after_a_stall(app: App) -> None:
    async with connect(f"ws://127.0.0.1:{app.port}", compression=None) as client:
        app.reading.clear()
        sending = [asyncio.create_task(client.send(b"x" * (60_000 if n % 4 == 0 else 640))) for n in range(5 * 75)]
        await asyncio.sleep(0.5)
        app.reading.set()
        await asyncio.gather(*sending)
        for _ in range(5 * 75):
            await asyncio.wait_for(client.recv(), PATIENCE_S)
        await chat(client, 50, pause_s=0.01)


async def test_the_application_that_sends_to_a_cut_client_sees_it_gone(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    async with connect(f"ws://127.0.0.1:{app.port}", compression=None) as client:
        with suppress(ConnectionClosed):
            for _ in range(3000):
                await client.send("x")
        await asyncio.wait_for(client.wait_closed(), PATIENCE_S)
    await asyncio.sleep(0.2)
    assert not caplog.records
