"""The data directory: its lock, its secret, and where the running servers are.

lock        held by `mirage up` (flock): a second one on the same directory is refused
secret.key  HS256 key of the local token issuer, made on first use
run.json    URLs of the running system, for the other commands
media/ events/  working folders of the embedded servers
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from schemas.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Where a running system can be reached."""

    pid: int
    media_url: str
    events_url: str
    http_url: str = ""


class Installation:
    """One data directory."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is made when first written to."""
        self.folder = folder

    def prepare(self) -> None:
        """Make the directory; raises `Misconfigured` when it cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.folder / f".probe-{os.getpid()}"
            probe.write_bytes(b"x" * 4096)
            probe.unlink()
        except OSError as error:
            raise Misconfigured(f"data directory {self.folder} cannot be written: {error}") from None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the directory; raises `Misconfigured` naming the holder when another process does."""
        self.prepare()
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = self.running()
                who = f" (pid {holder.pid}, {holder.http_url})" if holder else ""
                raise Misconfigured(
                    f"Mirage is already running on {self.folder}{who}; stop it, or set another MIRAGE_DATA_DIR"
                ) from None
            try:
                yield
            finally:
                (self.folder / "run.json").unlink(missing_ok=True)

    def announce(self, info: RunInfo) -> None:
        """Tell the other commands where the system runs."""
        fresh = self.folder / "run.json.new"
        fresh.write_text(json.dumps(asdict(info)), "utf-8")
        fresh.chmod(0o600)
        fresh.replace(self.folder / "run.json")

    def running(self) -> RunInfo | None:
        """Return where the system runs, or None. A file left behind by a killed one does not count."""
        try:
            info = RunInfo(**json.loads((self.folder / "run.json").read_text("utf-8")))
            os.kill(info.pid, 0)
        except (OSError, ValueError, TypeError):
            return None
        return info

    def secret(self) -> bytes:
        """Return the local issuer's key, made on first use; readable by this user only."""
        path = self.folder / "secret.key"
        self.prepare()
        if not path.exists():
            fresh = path.with_suffix(f".{os.getpid()}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(secrets.token_hex(32).encode())
            with contextlib.suppress(FileExistsError):  # somebody was faster: theirs counts
                os.link(fresh, path)
            fresh.unlink()
        key = path.read_bytes()
        if len(key) < 32:
            raise Misconfigured(f"{path} is too short to be a key; remove it and a new one is made")
        return key
