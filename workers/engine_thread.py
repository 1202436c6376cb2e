"""The one thread that drives a worker's engine.

Inference holds a core for milliseconds. On the event loop it would delay heartbeats until the leases run out; on more
than one thread it would only fight for the same cores, and engines are not thread-safe.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class EngineThread:
    """Runs calls one after the other, first come, first served."""

    def __init__(self) -> None:
        """Start no thread before the first call."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._began: float | None = None

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what `call` returns, or raise what it raises."""

        def timed() -> R:
            self._began = time.monotonic()
            try:
                return call(*args, **kwargs)
            finally:
                self._began = None

        return await asyncio.get_running_loop().run_in_executor(self._executor, timed)

    @property
    def busy_s(self) -> float:
        """Seconds that the call in flight has taken so far."""
        began = self._began
        return 0.0 if began is None else time.monotonic() - began

    def close(self) -> None:
        """Wait for the call in flight and end the thread."""
        self._executor.shutdown()
