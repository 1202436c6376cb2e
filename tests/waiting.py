"""Tests wait for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], Awaitable[bool]], *, within_s: float, what: str) -> None:
    """Return as soon as `condition` holds; fail the test when it does not within `within_s`."""
    due = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < due, f"{what}: not within {within_s} s"
        await asyncio.sleep(0.02)
