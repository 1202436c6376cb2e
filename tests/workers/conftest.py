"""A session on each kind of bus."""

from collections.abc import AsyncIterator

import pytest

from schemas.bus.memory import MemoryBus
from schemas.bus.redis import RedisBus
from tests.workers.stage import Stage, staged


@pytest.fixture(params=["memory", "server"])
async def stage(request: pytest.FixtureRequest, server_urls: tuple[str, str]) -> AsyncIterator[Stage]:
    """Return a session on each kind of bus."""
    async with staged(MemoryBus() if request.param == "memory" else RedisBus(server_urls[1])) as stage:
        yield stage


@pytest.fixture
async def server_stage(server_urls: tuple[str, str]) -> AsyncIterator[Stage]:
    """Return a session on a real server."""
    async with staged(RedisBus(server_urls[1])) as stage:
        yield stage
