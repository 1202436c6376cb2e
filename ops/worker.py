"""The process of one worker: `mirage worker video|voice|policy|record`."""

import asyncio
import os
import signal

import structlog

from ops.installation import Installation
from ops.settings import Settings
from ops.wiring import check_planes, open_planes, runner, task_factory
from schemas.bus.base import Planes
from schemas.errors import BusUnavailable
from schemas.names import Kind
from schemas.task import TaskFactory
from workers.engine_thread import EngineThread
from workers.runner import Runner

log = structlog.get_logger(__name__)

_SERVER_WAIT_S = 30.0
_STUCK_S = 20.0  # a frame takes milliseconds; loading, which may build GPU engines for minutes, holds no session


async def run_worker(kind: Kind, settings: Settings) -> None:
    """Work until SIGTERM or SIGINT, then drain."""
    planes = open_planes(settings, Installation(settings.data_dir))
    thread = EngineThread()
    try:
        await await_servers(planes)
        factory: TaskFactory = await thread.run(task_factory, kind, planes, settings, thread)
        watching = asyncio.create_task(_end_when_stuck(thread))
        try:
            await run_until_signalled(runner(kind, planes, settings, factory))
        finally:
            watching.cancel()
    finally:
        thread.close()
        await planes.close()


async def _end_when_stuck(thread: EngineThread) -> None:
    """End the process when the engine hangs: beats would go on, and hold every session for ever.

    The leases run out, others take over, and by then the frame that did it is too old to be tried again.
    """
    while True:
        await asyncio.sleep(1)
        if thread.busy_s > _STUCK_S:
            log.critical("engine hangs; ending this worker", seconds=round(thread.busy_s))
            os._exit(70)


async def run_until_signalled(running: Runner) -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await running.run(stop)


async def await_servers(planes: Planes) -> None:
    """Wait for servers that are still starting; a server that answers but will not do is refused at once."""
    due = asyncio.get_running_loop().time() + _SERVER_WAIT_S
    while True:
        try:
            await check_planes(planes)
        except BusUnavailable as error:
            if asyncio.get_running_loop().time() >= due:
                raise
            log.warning("waiting for the stream server", error=str(error))
            await asyncio.sleep(0.5)
        else:
            return
