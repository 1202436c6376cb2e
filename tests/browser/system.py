"""A whole Mirage as `mirage up` runs it, on a free port and in a directory of its own."""

import asyncio
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.installation import Installation
from ops.supervisor import login_code
from ops.tether import command
from schemas.bus.redis import RedisBus

_START_S = 60.0
_STOP_S = 20.0
_PRINTED = re.compile(r"(http://\S+?)/\?code=\S+")


@dataclass(frozen=True)
class RunningSystem:
    """Where it is reached."""

    url: str
    printed_url: str
    """What `mirage up` printed, with its login code."""
    folder: Path

    def login_url(self) -> str:
        """Return the studio's address with a fresh login code."""
        with ThreadPoolExecutor(1) as aside:  # Playwright's loop occupies this thread
            code = aside.submit(lambda: asyncio.run(self._code())).result()
        return f"{self.url}/?code={code}"

    async def _code(self) -> str:
        running = Installation(self.folder).running()
        assert running is not None, "the system is not running any more"
        events = RedisBus(running.events_url)
        try:
            return await login_code(events, "local")
        finally:
            await events.close()


@contextmanager
def mirage_up(folder: Path, *, origins: tuple[str, ...]) -> Iterator[RunningSystem]:
    """Run `mirage up`; pages of `origins` may connect, beside its own."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")} | {
        "MIRAGE_DATA_DIR": str(folder),
        "MIRAGE_ALLOWED_ORIGINS": ",".join(origins),
        "COLUMNS": "400",
    }
    process = subprocess.Popen(
        command([sys.executable, "-m", "ops.cli", "up", "--port", "0"]), env=environ, stdout=subprocess.PIPE, text=True
    )
    try:
        printed = _await_address(process)
        yield RunningSystem(printed[1], printed[0], folder)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _await_address(process: subprocess.Popen[str]) -> re.Match[str]:
    """Return the match of the printed address; goes on reading, so that the process never waits for us."""
    found: queue.Queue[re.Match[str] | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if match := _PRINTED.search(line):
                found.put(match)
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    match = found.get(timeout=_START_S)
    assert match is not None, f"`mirage up` ended with {process.wait()} before it printed an address"
    return match
