"""The process of one ingress: `mirage ingress`."""

import json
import logging
import os
import signal
import socket
from pathlib import Path
from typing import Any

import uvicorn

from ingress.app import create_app
from ingress.settings import IngressSettings
from ingress.tokens import KeyRing
from ops.enrolment import ProcessEnroller
from ops.installation import Installation
from ops.listening import listen
from ops.policy_file import load_policy
from ops.settings import MOST_FACES, Settings
from ops.transport_guards import GuardedHttp, GuardedWebSocket
from ops.wiring import open_planes
from ops.worker import await_servers
from schemas.clock import SystemClock
from schemas.errors import Misconfigured

TRANSPORT_LIMIT = 1 << 20
"""A WebSocket message above this is refused before it is buffered (1009); the media limit answers with an error."""

WEB_ROOT = Path(__file__).parent.parent / "ingress" / "web"


def own_origins(host: str, port: int) -> frozenset[str]:
    """Return the origins of the page that this ingress serves itself."""
    local = {"127.0.0.1", "localhost", "[::1]"}
    names = local if host in ("127.0.0.1", "::1", "0.0.0.0", "::") else {f"[{host}]" if ":" in host else host}  # noqa: S104
    return frozenset(f"http://{name}" if port == 80 else f"http://{name}:{port}" for name in names)


def key_ring(settings: Settings, installation: Installation) -> KeyRing:
    """Return the token keys: the configured secret or the installation's, and the issuers' keys from the JWKS file."""
    secret = settings.jwt_secret.encode() if settings.jwt_secret else installation.secret()
    issuers: list[dict[str, Any]] = []
    if settings.jwt_keys is not None:
        try:
            issuers = json.loads(settings.jwt_keys.read_text("utf-8"))["keys"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Misconfigured(f"MIRAGE_JWT_KEYS={settings.jwt_keys} is not a JWKS file: {error}") from None
    return KeyRing(secret, issuers)


def ingress_settings(settings: Settings, port: int) -> IngressSettings:
    """Return what the ingress needs of the settings."""
    return IngressSettings(
        allowed_origins=own_origins(settings.host, port) | frozenset(settings.allowed_origins),
        max_frame_bytes=settings.max_frame_bytes,
        media_retention_s=settings.media_retention_s,
        event_ttl_s=settings.event_ttl_s,
        chunk_ms=settings.chunk_ms,
        policy=load_policy(settings.policy),
        default_max_faces=settings.max_faces,
        max_faces=MOST_FACES,
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Tell uvicorn's warnings from what it says of every upgrade that was refused with a proper answer."""
    return "without completing handshake" not in record.getMessage()


async def run_ingress(settings: Settings, *, listener_fd: int | None) -> None:
    """Serve until SIGTERM or SIGINT; on the inherited socket `listener_fd`, or on one of our own."""
    listener = (
        socket.socket(fileno=os.dup(listener_fd)) if listener_fd is not None else listen(settings.host, settings.port)
    )
    installation = Installation(settings.data_dir)
    planes = open_planes(settings, installation)
    enroller = ProcessEnroller()
    try:
        await await_servers(planes)
        app = create_app(
            planes=planes,
            enroller=enroller,
            settings=ingress_settings(settings, listener.getsockname()[1]),
            keys=key_ring(settings, installation),
            clock=SystemClock(),
            web_root=WEB_ROOT,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                http=GuardedHttp,
                ws=GuardedWebSocket,
                ws_max_size=max(TRANSPORT_LIMIT, 2 * settings.max_frame_bytes),
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=3,
                server_header=False,
            )
        )
        logging.getLogger("uvicorn.error").addFilter(_is_news)
        # uvicorn raises the signal that stopped it again when it is done; ours to outlive, there is more to close.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        await server.serve(sockets=[listener])
    finally:
        enroller.close()
        await planes.close()
