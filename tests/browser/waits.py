"""Waiting for a condition from a test that is not a coroutine (Playwright's own loop runs elsewhere)."""

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], *, within_s: float, what: str, every_s: float = 0.1) -> None:
    """Return as soon as `condition` holds; fail the test when it does not within `within_s`."""
    due = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < due, f"{what}: not within {within_s} s"
        time.sleep(every_s)
