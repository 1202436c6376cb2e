"""Fixtures that every part's tests share: real embedded servers, and the buses on them."""

import os
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus

# Machines are shared and noisy: a slow example is no failure. Performance is measured in benchmarks.
settings.register_profile("mirage", deadline=None)
settings.load_profile("mirage")


_NEEDS = {"neural_peers": ("torch", "insightface", "onnxscript", "faiss"), "rerun": ("rerun",)}
"""Marker → packages that its tests need and Mirage itself does not."""


def _missing() -> dict[str, list[str]]:
    found = {marker: [name for name in names if find_spec(name) is None] for marker, names in _NEEDS.items()}
    return {marker: names for marker, names in found.items() if names}


def pytest_report_header() -> list[str]:
    """Say which tests are left out."""
    return [f"{marker}: left out, no {', '.join(names)} here" for marker, names in _missing().items()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs packages that are not here; REQUIRE_NEURAL_PEERS and REQUIRE_RERUN make that an error."""
    for marker, names in _missing().items():
        variable = f"REQUIRE_{marker.upper()}"
        if os.environ.get(variable):
            raise pytest.UsageError(f"{variable} is set, and {', '.join(names)} is not installed")
        out = [item for item in items if item.get_closest_marker(marker)]
        if out:
            config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if item not in out]


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """Commands that tests run in this process set logging up: the next test must not find it so."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


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
