"""Fixtures that every part's tests share: real embedded servers, and the buses on them."""

import os
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import settings

from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus

# Machines are shared and noisy: a slow example is no failure. Performance is measured in benchmarks.
settings.register_profile("mirage", deadline=None)
settings.load_profile("mirage")


_PEERS = ("torch", "insightface", "onnxscript")


def _missing_peers() -> list[str]:
    return [name for name in _PEERS if find_spec(name) is None]


def pytest_report_header() -> str | None:
    """Say which comparisons are left out."""
    missing = _missing_peers()
    return f"neural_peers: left out, no {', '.join(missing)} here" if missing else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs heavy packages that Mirage itself does not; REQUIRE_NEURAL_PEERS makes that an error."""
    missing = _missing_peers()
    if not missing:
        return
    if os.environ.get("REQUIRE_NEURAL_PEERS"):
        raise pytest.UsageError(f"REQUIRE_NEURAL_PEERS is set, and {', '.join(missing)} is not installed")
    out = [item for item in items if item.get_closest_marker("neural_peers")]
    if out:
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def server_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two real servers, one a plane, as `mirage up` starts them: (media URL, events URL)."""
    folder: Path = tmp_path_factory.mktemp("servers")
    servers = [
        EmbeddedServer(find_binary(None), folder / name, ServerOptions(name, durable=name == "events"))
        for name in ("media", "events")
    ]
    for server in servers:
        server.start()
    yield servers[0].url, servers[1].url
    for server in servers:
        server.stop()


@pytest.fixture
async def planes(server_urls: tuple[str, str]) -> AsyncIterator[Planes]:
    """Buses on the two servers. Tests share the servers, so they use their own session IDs."""
    planes = Planes(RedisBus(server_urls[0]), RedisBus(server_urls[1]))
    yield planes
    await planes.close()
