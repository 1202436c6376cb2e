"""`mirage up`: embedded servers, ingress, workers and policy as separate processes; one Ctrl-C stops all of them.

A child that dies is started again, at once the first time, then after growing pauses. Children are tethered: they are
gone when the supervisor is gone, also after `kill -9`.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import structlog

from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from ops.installation import Installation, RunInfo
from ops.listening import listen
from ops.settings import Settings
from ops.tether import command
from schemas import names
from schemas.bus.base import Bus
from schemas.errors import Misconfigured

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_HEALTHY_S = 30.0
_STOP_S = 12.0
LOGIN_TTL_MS = 15 * 60 * 1000


@dataclass(slots=True)
class Child:
    """One supervised process."""

    name: str
    argv: list[str]
    fds: tuple[int, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    pause_s: float = 0.0
    restarts: int = 0

    def start(self, environ: Mapping[str, str]) -> None:
        """Start the process, in its own session: a Ctrl-C in the terminal reaches the supervisor alone."""
        self.process = subprocess.Popen(  # noqa: S603 - our own commands
            command(self.argv), env=dict(environ), pass_fds=self.fds, start_new_session=True
        )
        self.started_at = time.monotonic()

    def tend(self, environ: Mapping[str, str]) -> None:
        """Start the process again when it has died and its pause is over."""
        now = time.monotonic()
        if self.process is not None and (code := self.process.poll()) is not None:
            healthy = now - self.started_at > _HEALTHY_S
            self.pause_s = 0.0 if healthy or self.restarts == 0 else self.pause_s
            log.warning("process died", name=self.name, code=code, restart_in_s=self.pause_s)
            self.process, self.start_at = None, now + self.pause_s
            self.pause_s = min(_LONGEST_PAUSE_S, max(_FIRST_PAUSE_S, 2 * self.pause_s))
            self.restarts += 1
        if self.process is None and now >= self.start_at:
            self.start(environ)


class Servers:
    """The embedded servers of one installation, where none are configured: media in memory, events durable."""

    def __init__(self, settings: Settings, installation: Installation) -> None:
        """Prepare; nothing runs before `start`."""
        self._embedded: dict[str, EmbeddedServer] = {}
        if settings.redis_url is None:
            binary = find_binary(settings.server_binary)
            wanted = ("media",) if settings.events_url else ("media", "events")
            self._embedded = {
                name: EmbeddedServer(binary, installation.folder / name, ServerOptions(name, durable=name == "events"))
                for name in wanted
            }
        self._settings = settings

    def start(self) -> tuple[str, str]:
        """Start them; returns (media URL, events URL)."""
        for server in self._embedded.values():
            server.start()
        media = self._settings.redis_url or self._embedded["media"].url
        if "events" in self._embedded:
            return media, self._embedded["events"].url
        return media, self._settings.events_url or media

    def tend(self) -> None:
        """Start again what has died. Blocks while a server starts."""
        for server in self._embedded.values():
            try:
                server.tend()
            except Misconfigured as error:
                log.error("stream server does not start", error=str(error))  # noqa: TRY400 - it says what it is

    def stop(self) -> None:
        """Stop them; the events server writes its file to the end first."""
        for server in self._embedded.values():
            server.stop()


class System:
    """A whole Mirage on this machine. Use as a context: `with System(...) as system:`."""

    def __init__(self, settings: Settings, *, environ: Mapping[str, str]) -> None:
        """Prepare; nothing runs before the context is entered."""
        self._settings = settings
        self._environ = dict(environ)
        self._installation = Installation(settings.data_dir)
        self._servers = Servers(settings, self._installation)
        self._stack = contextlib.ExitStack()
        self.children: list[Child] = []
        self.media_url = self.events_url = ""
        self.http_url = ""

    @property
    def settings(self) -> Settings:
        """What it was made with."""
        return self._settings

    def __enter__(self) -> Self:
        """Lock the data directory, take the port, start servers and processes."""
        try:
            self._stack.enter_context(self._installation.locked())
            listener = self._stack.enter_context(listen(self._settings.host, self._settings.port))
            port = listener.getsockname()[1]
            host = "127.0.0.1" if self._settings.host in ("0.0.0.0", "::") else self._settings.host  # noqa: S104
            self.http_url = f"http://{host}:{port}"
            self._stack.callback(self._servers.stop)
            self.media_url, self.events_url = self._servers.start()
            self._environ |= {
                "MIRAGE_REDIS_URL": self.media_url,
                "MIRAGE_EVENTS_URL": self.events_url,
                "MIRAGE_DATA_DIR": str(self._settings.data_dir),
                "MIRAGE_PORT": str(port),
            }
            self.children = self._plan(listener.fileno())
            self._stack.callback(self._stop_children)
            for child in self.children:
                child.start(self._environ)
            self._installation.announce(RunInfo(os.getpid(), self.media_url, self.events_url, self.http_url))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, gently first."""
        self._stack.close()

    def _plan(self, listener: int) -> list[Child]:
        mirage = [sys.executable, "-m", "ops.cli"]
        workers = [("video", self._settings.video_workers), ("voice", self._settings.voice_workers), ("policy", 1)]
        workers.append(("record", self._settings.record_workers))
        return [
            Child("ingress", [*mirage, "ingress", "--fd", str(listener)], fds=(listener,)),
            *(Child(f"{kind}-{n}", [*mirage, "worker", kind]) for kind, count in workers for n in range(1, count + 1)),
        ]

    async def tend(self, stop: asyncio.Event) -> None:
        """Keep every process running until `stop` is set."""
        while not stop.is_set():
            await asyncio.to_thread(self._servers.tend)
            for child in self.children:
                child.tend(self._environ)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.2)

    def _stop_children(self) -> None:
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        due = time.monotonic() + _STOP_S
        for process in running:
            try:
                process.wait(max(0.1, due - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process would not stop", pid=process.pid)
                process.kill()
                process.wait()


async def login_code(events: Bus, subject: str) -> str:
    """Return a one-time login code for `subject`, good for 15 minutes."""
    code = secrets.token_urlsafe(24)
    await events.put(names.login(code), {b"sub": subject.encode()})
    await events.expire([names.login(code)], ttl_ms=LOGIN_TTL_MS)
    return code
