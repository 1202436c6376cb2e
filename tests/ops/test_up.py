"""`mirage up` as a user runs it: real processes, real signals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S, Patience

pytestmark = pytest.mark.faults

UP = [sys.executable, "-m", "ops.cli", "up"]


def environment(folder: Path, **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    return clean | {"MIRAGE_DATA_DIR": str(folder), "MIRAGE_PORT": "0", "NO_COLOR": "1", **settings}


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run `mirage up` until it prints its URL; yields the process and the URL."""
    process = subprocess.Popen(
        UP, env=environment(folder, **settings), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            for line in process.stdout:
                if found := re.search(r"(http://\S+)/\?code=\S+", line):
                    yield process, found[1]
                    break
            else:
                pytest.fail("mirage up ended without printing its URL")
        finally:
            process.kill()


def processes_of(folder: Path) -> dict[int, str]:
    """Return the live processes that were started for this data directory, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            environ = (entry / "environ").read_bytes()
            inside = (entry / "cwd").readlink().is_relative_to(folder)  # the servers: they overwrite their environment
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (entry / "stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
        except (OSError, ValueError, IndexError):
            continue
        if (inside or str(folder).encode() in environ) and state not in ("Z", "X") and int(entry.name) != os.getpid():
            found[int(entry.name)] = line
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    patience = Patience()
    while not condition():
        assert not patience.ends(), f"{what}: waited too long"
        time.sleep(0.05)


def worker_pid(folder: Path, kind: str) -> int | None:
    return next((pid for pid, line in processes_of(folder).items() if line.rstrip().endswith(f"worker {kind}")), None)


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except OSError:
        return False


def listed(folder: Path) -> bool:
    """Return whether `mirage sessions` reaches the system."""
    argv = [sys.executable, "-m", "ops.cli", "sessions"]
    return subprocess.run(argv, env=environment(folder), capture_output=True, check=False).returncode == 0


def test_one_interrupt_stops_everything(tmp_path: Path) -> None:
    with running(tmp_path) as (process, url):
        assert healthy(url)
        lines = " ".join(processes_of(tmp_path).values())
        for part in ("ingress", "worker video", "worker voice", "worker policy", "valkey-server"):
            assert part in lines
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert processes_of(tmp_path) == {}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Run a system for the tests that leave it as they found it: its data directory and its URL."""
    folder = tmp_path_factory.mktemp("system")
    with running(folder) as (_, url):
        yield folder, url


def test_a_second_one_on_the_same_data_directory_is_refused(system: tuple[Path, str]) -> None:
    folder, url = system
    second = subprocess.run(
        UP, env=environment(folder), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert second.returncode == 2
    assert "already running" in second.stderr
    assert url in second.stderr
    assert healthy(url)


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        result = subprocess.run(
            UP,
            env=environment(tmp_path, MIRAGE_PORT=port),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert result.returncode == 2
    assert f"127.0.0.1:{port}" in result.stderr
    assert "MIRAGE_PORT" in result.stderr


def test_processes_that_die_are_started_again(system: tuple[Path, str]) -> None:
    folder, url = system
    first = worker_pid(folder, "voice")
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: worker_pid(folder, "voice") not in (None, first), "a new voice worker")
    ingress = next(pid for pid, line in processes_of(folder).items() if " ingress " in line)
    os.kill(ingress, signal.SIGKILL)
    wait_for(lambda: healthy(url), "ingress answers again on the same port")
    server = next(pid for pid, line in processes_of(folder).items() if "events.sock" in line)
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: listed(folder), "the events server is back, and found")


def test_killing_it_leaves_no_orphans(tmp_path: Path) -> None:
    with running(tmp_path) as (process, _):
        assert len(processes_of(tmp_path)) >= 6
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: processes_of(tmp_path) == {}, "every process of the killed system is gone")


def test_a_data_directory_that_takes_no_data_is_named() -> None:
    full = Path("/dev/full")
    result = subprocess.run(
        UP, env=environment(full / "data"), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert result.returncode == 2
    assert "data directory /dev/full/data cannot be written" in result.stderr


def test_the_other_commands_find_the_running_system(system: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = system
    mirage = [sys.executable, "-m", "ops.cli"]
    shown = subprocess.run(
        [*mirage, "sessions", "--json"], env=environment(folder), capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0
    assert json.loads(shown.stdout) == {
        "sessions": [],
        "waiting": {"video": 0, "voice": 0, "policy": 0, "record": 0},
    }
    found = subprocess.run(
        [*mirage, "doctor", "--json"], env=environment(folder), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    alone = subprocess.run(
        [*mirage, "sessions"], env=environment(tmp_path / "other"), capture_output=True, text=True, check=False
    )
    assert alone.returncode == 2
    assert "mirage up" in alone.stderr
