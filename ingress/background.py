"""Work that must go on for as long as the process does."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

OnFatal = Callable[[], None]


def end_process() -> None:
    """Ask this process to end in order; whoever supervises it starts another."""
    os.kill(os.getpid(), signal.SIGTERM)


def start(work: Coroutine[Any, Any, None], *, name: str, on_fatal: OnFatal) -> asyncio.Task[None]:
    """Run `work`, which only a cancellation may end: anything else is logged, and `on_fatal` is called."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.critical("background work ended", work=name, exc_info=task.exception())
            on_fatal()

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task
