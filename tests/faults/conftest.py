"""Fault tests share the servers with other tests, but no work: their workers take whatever waits."""

import pytest

from schemas.bus.base import Planes
from schemas.names import Kind, work


@pytest.fixture(autouse=True)
async def no_work_left(planes: Planes) -> None:
    """Forget sessions that earlier tests left waiting for a worker."""
    await planes.events.delete(work(kind) for kind in Kind)
