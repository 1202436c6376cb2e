"""The page's files, and the headers that keep a browser strict about everything that comes from here."""

from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# No unsafe-inline, no unsafe-eval: scripts, workers and styles come from here as files or not at all. Pictures and
# sound of the stream are blobs. `connect-src 'self'` covers the WebSocket of the same origin.
_CSP = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; font-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), speaker-selection=(self), geolocation=(), payment=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class StrictHeaders:
    """ASGI middleware: the headers on every HTTP response; only static files may be kept, and are asked for again."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve; see the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caching = "no-cache" if scope["path"].startswith("/static/") else "no-store"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers["Cache-Control"] = caching
            await send(message)

        await self._app(scope, receive, with_headers)


def mount_pages(app: FastAPI, web_root: Path) -> None:
    """Serve the studio at `/` and the files of `web_root` under `/static/`."""

    @app.get("/", include_in_schema=False)
    async def studio() -> FileResponse:
        return FileResponse(web_root / "index.html")

    app.mount("/static", StaticFiles(directory=web_root), name="static")
