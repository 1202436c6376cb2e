"""`mirage tail`: what happens, as it happens."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

import click

from ops.commands.common import connected, json_option, run, start
from ops.replay.words import event_text, name_of, safe
from ops.settings import Settings
from ops.tail import STREAMS, Start, Tail, Tailed, parse_start
from schemas.decisions import policy_decisions
from schemas.errors import BusUnavailable, CodecError, MirageError
from schemas.events import EVENT, SessionEnded, VideoDropped, metric_events
from schemas.facts import control_facts
from schemas.message import Message, as_json

_FAMILIES: dict[str, Callable[[bytes], Message]] = {
    "metrics": metric_events.decode,
    "policy": policy_decisions.decode,
    "control": control_facts.decode,
}
_COLOURS = {"metrics": "cyan", "policy": "yellow", "control": "magenta"}


@click.command()
@click.argument("session", required=False)
@click.option(
    "--stream",
    "streams",
    multiple=True,
    type=click.Choice(STREAMS),
    help="May be given several times; all when absent.",
)
@click.option(
    "--from",
    "begin",
    multiple=True,
    metavar="ID",
    help="Go on after this entry; `stream:ID` for one stream of several; 0 is before everything.",
)
@json_option
def tail(session: str | None, streams: tuple[str, ...], begin: tuple[str, ...], *, as_json: bool) -> None:
    """Follow SESSION from its start until it ends, or every live session from now on; Ctrl-C ends it.

    With --json one object a line: session, stream, id and message, or what was unreadable.
    """
    streams = tuple(dict.fromkeys(streams)) or STREAMS
    try:
        after = parse_start(begin, streams)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--from") from None
    run(_tail(start(role="cli"), session, streams, after, as_json=as_json))


async def _tail(
    settings: Settings, session: str | None, streams: tuple[str, ...], after: Start | None, *, as_json: bool
) -> None:
    async with connected(settings) as planes:
        following = Tail(planes, streams, after, away=_away)
        source = following.every() if session is None else following.one(session)
        printing = asyncio.ensure_future(_print(source, _json_line if as_json else _line(with_sid=session is None)))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, printing.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await printing


async def _print(source: AsyncIterator[Tailed], line: Callable[[Tailed], str]) -> None:
    colour = False if "NO_COLOR" in os.environ else None
    async for tailed in source:
        try:
            click.echo(line(tailed), color=colour)
        except BrokenPipeError:  # whoever read this has gone, `head` for one: that is no fault
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise MirageError(
                f"the result cannot be written: {error.strerror}; goes on after {tailed.entry.id}"
            ) from None


def _away(error: BusUnavailable) -> None:
    click.echo(f"mirage: {error}; waiting for the server", err=True)


def _message(tailed: Tailed) -> Message:
    return _FAMILIES[tailed.stream](tailed.entry.fields.get(EVENT, b""))


def _json_line(tailed: Tailed) -> str:
    told = {"session": tailed.sid, "stream": tailed.stream, "id": str(tailed.entry.id)}
    try:
        return json.dumps(told | {"message": as_json(_message(tailed))})
    except CodecError as error:
        data = tailed.entry.fields.get(EVENT, b"")
        return json.dumps(told | {"message": None, "unreadable": str(error), "bytes": data.hex()})


def _line(*, with_sid: bool) -> Callable[[Tailed], str]:
    def make(tailed: Tailed) -> str:
        found = tailed.entry.id
        seconds, ms = divmod(found.ms, 1000)
        try:
            at = f"{datetime.fromtimestamp(seconds, UTC).astimezone():%H:%M:%S}.{ms:03d}"
        except (OverflowError, ValueError, OSError):  # an ID that is no time
            at = "--:--:--.---"
        parts = [click.style(at, dim=True)]
        if with_sid:
            parts.append(click.style(f"{safe(tailed.sid[:8]):8}", dim=True))
        parts.append(click.style(f"{tailed.stream:7}", fg=_COLOURS[tailed.stream]))
        parts.append(click.style(f"{found!s:>18}", dim=True))
        try:
            message = _message(tailed)
        except CodecError as error:
            return " ".join([*parts, click.style(f"unreadable: {safe(str(error))}", fg="red", bold=True)])
        bold = tailed.stream != "metrics" or isinstance(message, SessionEnded)
        fg = "red" if isinstance(message, VideoDropped) else None
        return " ".join([*parts, click.style(f"{name_of(message):16}", bold=bold, fg=fg), safe(event_text(message))])

    return make
