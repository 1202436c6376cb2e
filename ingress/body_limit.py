"""No request may make us read, or parse, more than it can need."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingress.failures import body_of, status_of
from schemas.errors import InputRejected

MAX_BODY_BYTES = 64 << 10
_UPLOADS = "/v1/identities"
"""Reads with limits of its own, see `uploads`."""


class BodyLimit:
    """ASGI middleware: bodies up to `MAX_BODY_BYTES`, read whole before anything looks at them."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; see the ASGI specification."""
        if scope["type"] != "http" or scope["path"] == _UPLOADS:
            await self._app(scope, receive, send)
            return
        try:
            waiting = [await _whole(Headers(scope=scope), receive)]
        except InputRejected as error:
            await JSONResponse(body_of(error), status_of(error))(scope, receive, send)
            return

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replay, send)


async def _whole(headers: Headers, receive: Receive) -> Message:
    """Return the body in one message, or the news that the client has left; raises `InputRejected` (`too_large`)."""
    announced = headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 9 or int(announced) > MAX_BODY_BYTES):
        raise _too_large()
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return message
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        if not message.get("more_body", False):
            return {"type": "http.request", "body": bytes(body), "more_body": False}


def _too_large() -> InputRejected:
    return InputRejected(f"body above {MAX_BODY_BYTES} bytes", code="too_large")
