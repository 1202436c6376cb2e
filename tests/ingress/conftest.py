"""An ingress on a real port, shared by the tests of a module: each uses its own sessions."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ingress.settings import IngressSettings
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus
from tests.ingress.client import Service, serve

ORIGIN = "https://studio.example"


@pytest.fixture(scope="session")
def settings() -> IngressSettings:
    """Defaults, with short periods: the tests wait for what happens in them."""
    return IngressSettings(
        allowed_origins=frozenset({ORIGIN}), tick_s=0.1, touch_s=0.2, sweep_s=0.2, max_sessions_per_owner=1000
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(server_urls: tuple[str, str], settings: IngressSettings) -> AsyncIterator[Service]:
    """Run an ingress. Its users run in the module's event loop."""
    planes = Planes(RedisBus(server_urls[0]), RedisBus(server_urls[1]))
    async with serve(planes, settings) as running:
        yield running
    await planes.close()
