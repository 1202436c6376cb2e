"""The one thread that drives a worker's engine.

Inference holds a core for milliseconds. On the event loop it would delay heartbeats until the leases run out; on more
than one thread it would only fight for the same cores, and engines are not thread-safe.
"""

import asyncio
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

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Return what `call` returns, or raise what it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: call(*args, **kwargs))

    def close(self) -> None:
        """Wait for the call in flight and end the thread."""
        self._executor.shutdown()
