"""`mirage up`: the whole system on this machine."""

import asyncio
import os
import signal
import urllib.error
import urllib.request

import click
from rich.console import Console

from ops.commands.common import LOCAL_USER, run, start
from ops.engines import choose_face, choose_voice
from ops.shipped import add_shipped
from ops.supervisor import System, login_code
from schemas.bus.redis import RedisBus
from schemas.errors import Misconfigured

_READY_S = 60.0


@click.command()
@click.option("--host", help="Address to listen on (MIRAGE_HOST).")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for a free one (MIRAGE_PORT).")
@click.option("--video-workers", type=click.IntRange(0, 64), help="Video worker processes.")
@click.option("--voice-workers", type=click.IntRange(0, 64), help="Voice worker processes.")
def up(host: str | None, port: int | None, video_workers: int | None, voice_workers: int | None) -> None:
    """Run the whole system on this machine; Ctrl-C stops it."""
    given = {
        "MIRAGE_HOST": host,
        "MIRAGE_PORT": port,
        "MIRAGE_VIDEO_WORKERS": video_workers,
        "MIRAGE_VOICE_WORKERS": voice_workers,
    }
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    settings = start(role="up")
    for choose in (choose_face, choose_voice):
        choose(settings)  # says what is missing, once; workers that cannot load would be started again for ever
    with System(settings, environ=os.environ) as system:
        run(_supervise(system))


async def _supervise(system: System) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tending = asyncio.create_task(system.tend(stop))
    try:
        if await ready(system.http_url, stop):
            await announce(system)
            await tending
    finally:
        stop.set()
        await tending


async def ready(http_url: str, stop: asyncio.Event) -> bool:
    """Wait until ingress answers; False when `stop` came first. Raises `Misconfigured` when it never does."""
    due = asyncio.get_running_loop().time() + _READY_S
    while not stop.is_set():
        if await asyncio.to_thread(_healthy, http_url):
            return True
        if asyncio.get_running_loop().time() > due:
            stop.set()
            raise Misconfigured(f"ingress did not answer on {http_url} within {_READY_S:.0f} s; see the log above")
        await asyncio.sleep(0.1)
    return False


def _healthy(http_url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{http_url}/healthz", timeout=2) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


async def announce(system: System) -> None:
    """Print where the studio is, with a one-time login code."""
    events = RedisBus(system.events_url)
    try:
        await add_shipped(events, LOCAL_USER)
        code = await login_code(events, LOCAL_USER)
    finally:
        await events.close()
    console = Console()
    console.print("[bold green]Mirage is up.[/] Open the studio (the link works once):")
    console.print(f"  {system.http_url}/?code={code}", soft_wrap=True)
    console.print("Ctrl-C stops everything.")
