"""A client of the public edge, for the demo, the benches and the tests: REST, and `mirage.v1` over WebSocket.

Written from the protocol and with another MessagePack library than the server's, so that using it checks the wire
format. Every failure is a `MirageError` of the branch that says what to do, with the server's own code and words.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, Literal, Self
from urllib.parse import quote, urlsplit

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from schemas.errors import (
    BusUnavailable,
    CodecError,
    Conflict,
    Fenced,
    InputRejected,
    MirageError,
    NotFound,
    Refused,
    Throttled,
)

Kind = Literal["video", "audio"]
Notice = dict[str, Any]
"""A text message: an object with `type`, of `params`, `status`, `error`, `expiring`, `bye`."""

_KINDS: dict[int, Kind] = {1: "video", 2: "audio"}
_TYPES: dict[Kind, int] = {kind: number for number, kind in _KINDS.items()}
_LARGEST_MESSAGE = 16 << 20
_ENROLMENT_S = 120.0
"""Enrolling takes seconds; on a busy laptop, many."""
_BY_STATUS: dict[int, type[MirageError]] = {
    400: InputRejected,
    401: Refused,
    403: Refused,
    404: NotFound,
    409: Conflict,
    413: InputRejected,
    422: InputRejected,
    503: BusUnavailable,
}
_BY_CLOSE: dict[int, tuple[type[MirageError], str]] = {
    1009: (InputRejected, "too_large"),
    4400: (InputRejected, "protocol"),
    4401: (Refused, "unauthenticated"),
    4403: (Refused, "scope"),
    4404: (NotFound, "not_found"),
    4409: (Fenced, "replaced"),
    4410: (NotFound, "abandoned"),
}


class Unreachable(MirageError):
    """Nobody answered at the address, or the connection broke."""

    code = "unreachable"


@dataclass(frozen=True, slots=True)
class ReceivedMedia:
    """A converted frame (JPEG) or piece of sound (PCM16, mono, 16 kHz)."""

    kind: Kind
    pts_us: int
    """Media time of its start: the publisher's own, or the session's for a viewer."""
    seq: int
    data: bytes


class SessionConnection:
    """One WebSocket of a session. Iterate it for what the server sends; one task may send while another receives.

    Whoever has a camera should follow `params`: it alone can leave frames out before they are encoded. What is sent
    above the rate in force is thinned by the server, and never comes back.
    """

    def __init__(self, socket: ClientConnection, ready: Notice) -> None:
        """Use an open socket, whose `ready` message was read."""
        self._socket = socket
        self._seq = 0
        self.ready = ready
        self.params: dict[str, Any] = dict(ready["params"])
        """In force as far as this connection was iterated: `chunk_ms`, `fps`, `size`, `quality`, `rung`, and the rule
        that changed them last as `reason`."""

    async def send_video(self, pts_us: int, jpeg: bytes) -> int:
        """Send a frame; returns its number. Raises the error that closed the connection."""
        return await self._send("video", pts_us, jpeg)

    async def send_audio(self, pts_us: int, pcm: bytes) -> int:
        """Send a piece of sound, PCM16 mono at 16 kHz of any length; returns its number. Raises as `send_video`."""
        return await self._send("audio", pts_us, pcm)

    async def _send(self, kind: Kind, pts_us: int, data: bytes) -> int:
        seq, self._seq = self._seq, self._seq + 1
        try:
            await self._socket.send(msgpack.packb([_TYPES[kind], pts_us, seq, data], use_bin_type=True))
        except ConnectionClosed as error:
            raise _ended(error) from None
        return seq

    async def tell(self, kind: str, **fields: Any) -> None:
        """Send a control message: `playback`, `settings`, `panic` or `refresh` with its fields."""
        try:
            await self._socket.send(json.dumps({"type": kind, **fields}))
        except ConnectionClosed as error:
            raise _ended(error) from None

    async def __aiter__(self) -> AsyncIterator[ReceivedMedia | Notice]:
        """Yield what comes, until the session ends or `close` was called; raises when it ended for another reason."""
        try:
            while True:
                message = _read(await self._socket.recv())
                if isinstance(message, dict) and message.get("type") == "params":
                    self.params = {name: value for name, value in message.items() if name != "type"}
                yield message
        except ConnectionClosed as error:
            if error.rcvd is None or error.rcvd.code != 1000:
                raise _ended(error) from None

    async def close(self) -> None:
        """Say goodbye."""
        await self._socket.close()

    async def __aenter__(self) -> Self:
        """Return the connection, which is open already."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.close()


class MirageClient:
    """A user of one ingress."""

    def __init__(self, base_url: str) -> None:
        """Talk to `base_url`, such as `http://127.0.0.1:8787`."""
        parts = urlsplit(base_url)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname or "", parts.port
        self._token = ""

    async def login(self, code: str) -> None:
        """Exchange a one-time code for the token that everything else uses."""
        self._token = (await self._call("POST", "/v1/login", {"code": code}))["token"]

    async def add_identity(
        self, consent: Mapping[str, Any], *, portrait: bytes | None = None, voice: bytes | None = None, label: str = ""
    ) -> str:
        """Enrol a portrait (JPEG, PNG), a voice (WAV) or both under `consent`; returns the identity's ID."""
        files = {name: data for name, data in (("portrait", portrait), ("voice", voice)) if data is not None}
        body, content_type = _form({"consent": json.dumps(dict(consent)), "label": label}, files)
        return str((await self._send("POST", "/v1/identities", body, content_type))["id"])

    async def create_session(self, **wishes: Any) -> str:
        """Create a session and return its ID.

        Wishes: `face`, `faces`, `voice`, `max_faces`, `on_miss`, `bystanders`, `on_voice_fail`, `record`, `chunk_ms`.
        """
        return str((await self._call("POST", "/v1/sessions", wishes))["sid"])

    async def end_session(self, sid: str) -> None:
        """End a session of one's own."""
        await self._call("DELETE", f"/v1/sessions/{quote(sid)}")

    async def connect(self, sid: str, role: Literal["publish", "view"] = "publish") -> SessionConnection:
        """Open a WebSocket to the session and wait for `ready`."""
        ticket = await self._call("POST", f"/v1/sessions/{quote(sid)}/connect", {"role": role})
        try:
            socket = await connect(
                ticket["url"],
                subprotocols=[Subprotocol("mirage.v1"), Subprotocol(f"bearer.{ticket['token']}")],
                compression=None,
                max_size=_LARGEST_MESSAGE,
                proxy=None,
            )
            ready = _read(await socket.recv())
        except InvalidStatus as error:
            raise _refusal(error.response.status_code, error.response.body or b"") from None
        except ConnectionClosed as error:
            raise _ended(error) from None
        except (InvalidHandshake, OSError, TimeoutError) as error:
            raise Unreachable(f"cannot connect to {ticket['url']}: {error}") from None
        if not isinstance(ready, dict) or ready.get("type") != "ready" or not isinstance(ready.get("params"), dict):
            await socket.close()
            raise CodecError("the server did not begin with `ready`")
        return SessionConnection(socket, ready)

    async def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return await self._send(method, path, b"" if body is None else json.dumps(body).encode(), "application/json")

    async def _send(self, method: str, path: str, body: bytes, content_type: str) -> Any:
        return await asyncio.to_thread(self._exchange, method, path, body, content_type)

    def _exchange(self, method: str, path: str, body: bytes, content_type: str) -> Any:
        headers = {"Content-Type": content_type} if body else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        make = HTTPSConnection if self._secure else HTTPConnection
        connection = make(self._host, self._port, timeout=_ENROLMENT_S)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
        except (HTTPException, OSError) as error:
            raise Unreachable(f"{method} {path} at {self._host}:{self._port}: {error}") from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise _refusal(status, content)
        try:
            return json.loads(content)
        except ValueError:
            raise CodecError(f"{method} {path} did not answer with JSON") from None


def _read(message: str | bytes) -> ReceivedMedia | Notice:
    """Return what one WebSocket message says; raises `CodecError`."""
    try:
        if isinstance(message, str):
            notice = json.loads(message)
            if not isinstance(notice, dict):
                raise CodecError("a text message is not a JSON object")
            return notice
        number, pts_us, seq, data = msgpack.unpackb(message, raw=False, use_list=False)
        return ReceivedMedia(_KINDS[number], pts_us, seq, data)
    except (ValueError, TypeError, KeyError) as error:
        raise CodecError(f"the server sent what is no message of mirage.v1: {error!r}") from None


def _form(fields: Mapping[str, str], files: Mapping[str, bytes]) -> tuple[bytes, str]:
    """Return a multipart/form-data body (RFC 7578) and its content type."""
    boundary = f"mirage-{secrets.token_hex(16)}"
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="{name}"; filename="{name}"', data) for name, data in files.items()]
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def _refusal(status: int, content: bytes | bytearray) -> MirageError:
    """Return the error that an HTTP answer stands for."""
    try:
        told = json.loads(content)
        code, detail = str(told["code"]), str(told["detail"])
    except (ValueError, TypeError, KeyError):
        told, code, detail = {}, "http", f"the server answered {status}"
    error: MirageError
    if status == 429:
        error = Throttled(detail, retry_after_ms=int(told.get("retry_after_ms", 1000)))
    else:
        error = _BY_STATUS.get(status, MirageError)(detail)
    error.code = code
    return error


def _ended(closed: ConnectionClosed) -> MirageError:
    """Return the error that a close code stands for."""
    if closed.rcvd is None:
        return Unreachable("the connection broke")
    code, reason = closed.rcvd.code, closed.rcvd.reason or f"closed with {closed.rcvd.code}"
    if code == 4429:
        return Throttled(reason, retry_after_ms=1000)
    kind, name = _BY_CLOSE.get(code, (MirageError, "closed"))
    error = kind(reason)
    error.code = name
    return error
