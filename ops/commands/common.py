"""What the commands share: settings, logging, an event loop, output."""

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import click
import uvloop
from rich.console import Console

from ops.installation import Installation
from ops.logging import configure
from ops.settings import Settings, read
from ops.wiring import open_planes
from schemas.bus.base import Planes
from schemas.errors import MirageError

LOCAL_USER = "local"
"""Token subject of whoever holds this machine's data directory."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")


def start(**bound: str) -> Settings:
    """Read the settings and set logging up."""
    settings = read(os.environ)
    configure(settings.log_level, settings.log_format, **bound)
    return settings


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the event loop of every Mirage process."""
    uvloop.run(main)


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Planes]:
    """Open the buses of the running system."""
    planes = open_planes(settings, Installation(settings.data_dir))
    try:
        yield planes
    finally:
        await planes.close()


def emit(data: Any, *, as_json: bool, human: Callable[[Console], None]) -> None:
    """Print a result: JSON, or whatever `human` prints on the console that it is given.

    Raises `MirageError` when it cannot be written, to a full disk for one.
    """
    try:
        if as_json:
            click.echo(json.dumps(data, indent=2))
        else:
            human(Console())
    except BrokenPipeError:  # whoever read this has gone: no fault of the command
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains of it again
        raise MirageError(f"the result cannot be written: {error.strerror}") from None
