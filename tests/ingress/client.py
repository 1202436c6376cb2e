"""A small client of the whole protocol, and the service it talks to: real HTTP, real WebSockets, real servers."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

from ingress.app import create_app
from ingress.settings import IngressSettings
from ingress.tokens import EVERYTHING, KeyRing
from ops.listening import listen
from schemas.bus.base import Planes
from schemas.clock import Clock, SystemClock
from schemas.errors import BusUnavailable
from schemas.identity_store import Enrolment
from schemas.ids import ZERO
from schemas.media import DATA
from schemas.names import SessionKeys
from schemas.session_store import SessionStore
from schemas.wire import BEARER, PROTOCOL, MediaMessage, MediaType, decode, encode
from tests.waiting import PATIENCE_S, Patience

SECRET = bytes(range(32))
TRANSPORT_LIMIT = 1 << 20
CONSENT = {
    "subject": "Ada",
    "scope": ["face", "voice", "live"],
    "purpose": "test",
    "expires": "2099-01-01",
    "evidence": {"statement": "I was there", "by": "the tester"},
}


def jpeg(shade: int = 128, size: tuple[int, int] = (64, 64)) -> bytes:
    """Return a real JPEG, `size` = (width, height), of one grey."""
    encoded = cv2.imencode(".jpg", np.full((size[1], size[0], 3), shade, np.uint8))[1]
    return encoded.tobytes()


class HandClock:
    """A clock that only a test moves: how long the test takes changes nothing."""

    def __init__(self) -> None:
        self._start_ms, self._start_us = time.time_ns() // 1_000_000, time.monotonic_ns() // 1000
        self.ahead_ms = 0

    def now_ms(self) -> int:
        """See `Clock.now_ms`."""
        return self._start_ms + self.ahead_ms

    def monotonic_us(self) -> int:
        """See `Clock.monotonic_us`."""
        return self._start_us + self.ahead_ms * 1000


class FakeEnroller:
    """Takes every upload as it is."""

    async def face(self, image: bytes) -> Enrolment:
        """See `Enroller.face`."""
        return Enrolment(image, {"test": b"face"})

    async def voice(self, sound: bytes) -> Enrolment:
        """See `Enroller.voice`."""
        return Enrolment(sound, {"test": b"voice"})


@dataclass
class Socket:
    """One WebSocket: what came in, sorted."""

    raw: ClientConnection
    texts: list[dict[str, Any]] = field(default_factory=list)
    media: list[MediaMessage] = field(default_factory=list)
    code: int | None = None
    _reader: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Sort messages until the connection ends."""
        with suppress(ConnectionClosed):
            async for message in self.raw:
                if isinstance(message, str):
                    self.texts.append(json.loads(message))
                else:
                    self.media.append(decode(message, max_bytes=TRANSPORT_LIMIT))
        self.code = self.raw.close_code

    def start(self) -> None:
        """Read in the background."""
        self._reader = asyncio.create_task(self.read())

    async def stop(self) -> None:
        """Close, and wait for the end."""
        await self.raw.close()
        if self._reader is not None:
            await self._reader

    async def send(self, kind: MediaType, pts_us: int, seq: int, data: bytes) -> None:
        """Send media."""
        await self.raw.send(encode(MediaMessage(kind, pts_us, seq, data)))

    async def frame(self, pts_us: int, seq: int = 0, data: bytes | None = None) -> None:
        """Send a frame."""
        await self.send(MediaType.VIDEO, pts_us, seq, jpeg() if data is None else data)

    async def sound(self, pts_us: int, seq: int = 0, *, ms: int = 192, data: bytes | None = None) -> None:
        """Send sound."""
        await self.send(MediaType.AUDIO, pts_us, seq, bytes(ms * 32) if data is None else data)

    async def say(self, **message: Any) -> None:
        """Send a control message."""
        await self.raw.send(json.dumps(message))

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Return the control messages of a type."""
        return [text for text in self.texts if text["type"] == kind]

    def errors(self) -> list[str]:
        """Return the codes of the errors so far."""
        return [text["code"] for text in self.told("error")]

    def pictures(self) -> list[MediaMessage]:
        """Return the frames so far."""
        return [message for message in self.media if message.type is MediaType.VIDEO]

    def sounds(self) -> list[MediaMessage]:
        """Return the chunks so far."""
        return [message for message in self.media if message.type is MediaType.AUDIO]

    async def until(self, condition: Callable[[], Any], *, what: str) -> None:
        """Return as soon as `condition` holds; see `tests.waiting.until`."""
        patience = Patience()
        while not condition():
            assert not patience.ends(), (
                f"{what}: waited too long; told {self.texts[-5:]}, {len(self.media)} media, code {self.code}"
            )
            await asyncio.sleep(0.005)

    async def shown(self, count: int) -> None:
        """Wait for that many frames."""
        await self.until(lambda: len(self.pictures()) >= count, what=f"{count} frames")

    async def heard(self, count: int) -> None:
        """Wait for that many chunks."""
        await self.until(lambda: len(self.sounds()) >= count, what=f"{count} chunks")

    async def closed(self) -> int:
        """Return the close code, once there is one."""
        await self.until(lambda: self.code is not None, what="close")
        assert self.code is not None
        return self.code

    async def closed_within(self, ticks: int) -> int:
        """Return a publisher's close code; fail when it lived through more ticks, of which each brings a status."""
        before = len(self.told("status"))
        code = await self.closed()
        assert len(self.told("status")) - before <= ticks, "it was looked at too often before it was closed"
        return code


class Service:
    """A running ingress, and the calls that tests make to it."""

    def __init__(self, planes: Planes, settings: IngressSettings, keys: KeyRing, clock: Clock, port: int) -> None:
        self.planes, self.settings, self.keys, self.clock, self.port = planes, settings, keys, clock, port
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S)
        self.sockets: list[Socket] = []
        self.sids: list[str] = []

    def login(self, sub: str = "ada", scopes: frozenset[str] | set[str] = EVERYTHING, **more: Any) -> dict[str, str]:
        """Return the header of a login."""
        now_s = self.clock.now_ms() // 1000
        token = self.keys.login(sub, scopes, now_s=now_s, ttl_s=more.get("ttl_s", 3600))
        return {"Authorization": f"Bearer {token}"}

    async def session(self, sub: str = "ada", **wish: Any) -> tuple[str, str]:
        """Create a session; returns its ID and a publish token."""
        answer = await self.http.post("/v1/sessions", json=wish, headers=self.login(sub))
        assert answer.status_code == 201, answer.text
        body = answer.json()
        self.sids.append(body["sid"])
        return body["sid"], body["token"]

    async def token(self, sid: str, role: str = "publish", sub: str = "ada") -> str:
        """Return a further connect token."""
        answer = await self.http.post(f"/v1/sessions/{sid}/connect", json={"role": role}, headers=self.login(sub))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    async def identity(self, sub: str = "ada", **consent: Any) -> str:
        """Enrol an identity with face and voice; returns its ID."""
        answer = await self.http.post(
            "/v1/identities",
            files={"portrait": ("p.jpg", jpeg()), "voice": ("v.wav", b"RIFF")},
            data={"consent": json.dumps({**CONSENT, **consent})},
            headers=self.login(sub),
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def url(self, sid: str) -> str:
        """Return the address of a session's WebSocket."""
        return f"ws://127.0.0.1:{self.port}/v1/sessions/{sid}/stream"

    async def dial(self, sid: str, token: str, **more: Any) -> ClientConnection:
        """Open a WebSocket as a browser does; raises what `websockets` raises."""
        origin = more.pop("origin", None)
        return await connect(
            self.url(sid),
            subprotocols=[Subprotocol(PROTOCOL), Subprotocol(BEARER + token)],
            origin=None if origin is None else Origin(origin),
            compression=None,
            max_size=None,
            proxy=None,
            **{"open_timeout": PATIENCE_S, **more},
        )

    async def open(self, sid: str, token: str | None = None, **more: Any) -> Socket:
        """Open a WebSocket and wait for `ready`."""
        socket = Socket(await self.dial(sid, await self.token(sid) if token is None else token, **more))
        self.sockets.append(socket)
        socket.start()
        await socket.until(lambda: socket.told("ready"), what="ready")
        return socket

    async def inputs(self, sid: str, kind: MediaType) -> list[Any]:
        """Return the input entries of a session."""
        keys = SessionKeys(sid)
        return await self.planes.media.entries(keys.video_in if kind is MediaType.VIDEO else keys.audio_in)


@asynccontextmanager
async def serve(
    planes: Planes, settings: IngressSettings, *, clock: Clock | None = None, keys: KeyRing | None = None, **more: Any
) -> AsyncIterator[Service]:
    """Run an ingress on a free port; pages of its own origin may connect, beside those of `settings`."""
    clock, keys, failed = clock or SystemClock(), keys or KeyRing(SECRET), asyncio.Event()
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    settings = replace(settings, allowed_origins=settings.allowed_origins | {f"http://127.0.0.1:{port}"})
    app: FastAPI = create_app(
        planes=planes,
        enroller=FakeEnroller(),
        settings=settings,
        keys=keys,
        clock=clock,
        on_fatal=failed.set,
        **more,
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        ws="websockets-sansio",
        ws_max_size=TRANSPORT_LIMIT,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        assert not running.done(), "the server did not start"
        await asyncio.sleep(0.005)
    service = Service(planes, settings, keys, clock, port)
    try:
        yield service
    finally:
        for socket in service.sockets:
            await socket.stop()
        await service.http.aclose()
        with suppress(BusUnavailable):  # tests share the servers, and an owner has so many sessions and no more
            for sid in service.sids:
                await SessionStore(planes).end(sid, "test over")
        server.should_exit = True
        await running
    assert not failed.is_set(), "background work failed; the log says how"


@asynccontextmanager
async def echo(planes: Planes, sid: str, *, data: bytes | None = None) -> AsyncIterator[None]:
    """Stand in for workers: copy each input to its output stream, with its ID; `data` replaces the payload."""
    keys = SessionKeys(sid)
    pairs = {keys.video_in: keys.video_out, keys.audio_in: keys.audio_out}

    async def work() -> None:
        cursors = dict.fromkeys(pairs, ZERO)
        while True:
            found = await planes.media.read(cursors, count=64, block_ms=500)
            for stream, entries in found.items():
                for entry in entries:
                    cursors[stream] = entry.id
                    fields = dict(entry.fields) if data is None else {**entry.fields, DATA: data}
                    await planes.media.publish(pairs[stream], entry.id, fields)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def new_code() -> str:
    """Return a login code."""
    return secrets.token_urlsafe(24)
