"""Waiting for a condition from a test that is not a coroutine (Playwright's own loop runs elsewhere)."""

import time
from collections.abc import Callable

from tests.waiting import PATIENCE_S, Patience


def until(condition: Callable[[], bool], *, what: str, within_s: float = PATIENCE_S, every_s: float = 0.1) -> None:
    """Return as soon as `condition` holds; fail the test when it does not within `within_s`, see `Patience`."""
    patience = Patience(within_s)
    while not condition():
        assert not patience.ends(), f"{what}: not within {within_s} s"
        time.sleep(every_s)
