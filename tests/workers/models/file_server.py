"""A real HTTP server on loopback that gives files well or badly, as its script says, and notes what it was asked."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE = 16_384


@dataclass
class Hosted:
    """One file, and how it is given. Lists are scripts: one entry a request, empty means well-behaved."""

    data: bytes
    etag: str = '"v1"'
    ranges: bool = True
    says_length: bool = True
    statuses: list[int] = field(default_factory=list)
    """Error codes to answer first."""
    retry_after: str | None = None
    """Header of those answers."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes of the body after which the connection is closed."""
    stall_after: list[int] = field(default_factory=list)
    """Bytes of the body after which nothing more comes until `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    raw: bytes | None = None
    """The whole answer, headers too, in place of a proper one."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    range: str | None
    if_range: str | None


class FileServer:
    """What is hosted, by path; redirects, by path; and the requests so far."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, Hosted] = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[Asked] = []


@contextmanager
def serving() -> Iterator[FileServer]:
    """Run a server until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                _answer(self, server)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server = FileServer(httpd.server_port)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        for hosted in server.files.values():
            hosted.go_on.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def _answer(request: BaseHTTPRequestHandler, server: FileServer) -> None:
    asked = Asked(request.path, request.headers.get("Range"), request.headers.get("If-Range"))
    server.asked.append(asked)
    if request.path in server.redirects:
        request.send_response(302)
        request.send_header("Location", server.redirects[request.path])
        request.end_headers()
        return
    hosted = server.files.get(request.path)
    if hosted is None:
        request.send_error(404)
        return
    if hosted.raw is not None:
        request.wfile.write(hosted.raw)
        request.close_connection = True
        return
    if hosted.statuses:
        request.send_response(hosted.statuses.pop(0))
        if hosted.retry_after is not None:
            request.send_header("Retry-After", hosted.retry_after)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    start = 0
    if asked.range and hosted.ranges and asked.if_range in (None, hosted.etag):
        start = int(asked.range.removeprefix("bytes=").removesuffix("-"))
        if start >= len(hosted.data):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {start}-{len(hosted.data) - 1}/{len(hosted.data)}")
    else:
        request.send_response(200)
    body = hosted.data[start:]
    if hosted.says_length:
        request.send_header("Content-Length", str(len(body)))
    request.send_header("ETag", hosted.etag)
    request.end_headers()
    _send(request, body, hosted)


def _send(request: BaseHTTPRequestHandler, body: bytes, hosted: Hosted) -> None:
    cut = hosted.cut_after.pop(0) if hosted.cut_after else len(body)
    stall = hosted.stall_after.pop(0) if hosted.stall_after else None
    sent = 0
    while sent < min(cut, len(body)):
        if stall is not None and sent >= stall:
            hosted.go_on.wait(30)
            stall = None
        end = min(sent + _PIECE, cut, stall if stall is not None else len(body))
        request.wfile.write(body[sent:end])
        request.wfile.flush()
        sent = end
    request.close_connection = True
