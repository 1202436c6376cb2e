"""Tests wait for a condition, never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_S = 45.0
"""A wait that is no statement about a length ends long after any machine would have done it."""

_EVERY_S = 0.02
_STALL_S = 0.5


class Patience:
    """Time to wait for something, as a machine that works has it: while it stands still, hardly any goes by."""

    def __init__(self, seconds: float = PATIENCE_S) -> None:
        self._left_s, self._seen = seconds, time.monotonic()

    def ends(self) -> bool:
        """Return whether it is used up; between two calls at most `_STALL_S` is taken from it."""
        before, self._seen = self._seen, time.monotonic()
        self._left_s -= min(self._seen - before, _STALL_S)
        return self._left_s < 0


async def until(condition: Callable[[], Awaitable[bool]], *, what: str, within_s: float = PATIENCE_S) -> None:
    """Return as soon as `condition` holds; fail the test when it does not within `within_s`, see `Patience`."""
    patience = Patience(within_s)
    while not await condition():
        assert not patience.ends(), f"{what}: not within {within_s} s"
        await asyncio.sleep(_EVERY_S)
