"""`mirage replay`: fold a session again, compare every decision, ask what other thresholds would have decided."""

import os
import secrets
import sys
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.markup import escape as marked
from rich.table import Table

from ops.commands.common import connected, emit, json_option, start
from ops.policy_file import load_policy
from ops.replay.find import find
from ops.replay.report.page import OPEN_LOOP, WhatIf
from ops.replay.run import PolicyReplay, replay_found
from ops.replay.verdict import Verdict
from ops.replay.what_if import as_json, side_by_side
from ops.replay.words import safe
from ops.settings import Settings
from ops.wiring import archive_dir
from schemas.errors import Conflict, Misconfigured

_TABLE_ROWS = 200
_BEGINS = b"<!doctype html>"


@click.command()
@click.argument("session", metavar="SESSION|FILE")
@click.option("--policy", "depth", flag_value="policy", help="Compare every decision, byte for byte (the default).")
@click.option("--media", "depth", flag_value="media", help="Convert the recorded input again, compare every output.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    help="With --media: as many times faster than recorded; as fast as possible without.",
)
@click.option(
    "--close", is_flag=True, help="With --media: outputs need only be alike; for a recording of another machine."
)
@click.option(
    "--what-if",
    "thresholds",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with other thresholds; what it does not name stays as recorded.",
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a self-contained HTML page.")
@click.option("--no-pictures", is_flag=True, help="Leave the performer's frames out of the report.")
@json_option
def replay(
    session: str,
    depth: str | None,
    thresholds: Path | None,
    report: Path | None,
    *,
    speed: float | None,
    close: bool,
    no_pictures: bool,
    as_json: bool,
) -> None:
    """Replay a session, live or ended, or an archive file.

    Without --media, pictures and sound in an archive that is whole are not read, nor checked.

    Exit codes: 0 the same, 1 damaged or not found, 2 usage, 3 different, 4 its face or voice may not be worn any more.
    """
    if depth != "media" and (speed is not None or close):
        raise click.UsageError(f"{'--close' if speed is None else '--speed'} is for --media")
    if depth is not None and thresholds is not None:
        raise click.UsageError(f"--{depth} and --what-if are different questions; ask one at a time")
    if depth == "media" and (report is not None or no_pictures):
        raise click.UsageError("--report and --no-pictures are for the replay of decisions, without --media")
    settings = start(role="replay")
    if report is not None:
        _require_replaceable(report)  # before work is done for it
    if depth == "media":
        from ops.commands.replay_media import media_verdict, show  # noqa: PLC0415 - loads engines' libraries

        told = uvloop.run(media_verdict(settings, session, speed=speed, close=close))
        show(told, as_json=as_json)
        sys.exit(told.exit_code)
    _policy(settings, session, thresholds, report, pictures=not no_pictures, as_json=as_json)


def _policy(
    settings: Settings, session: str, thresholds: Path | None, report: Path | None, *, pictures: bool, as_json: bool
) -> None:
    async def replayed() -> PolicyReplay:
        folder = archive_dir(settings)
        return await replay_found(
            lambda: find(session, folder=folder, connect=lambda: connected(settings)),
            config=None if thresholds is None else lambda recorded: load_policy(thresholds, base=recorded),
            tell=report is not None,
            pictures=pictures,
        )

    found = uvloop.run(replayed())
    if report is not None:
        _write(report, found.page())
    verdict = found.verdict
    emit(
        verdict.as_json() if found.what_if is None else _what_if_json(found, found.what_if),
        as_json=as_json,
        human=lambda console: _show(console, found),
    )
    if found.what_if is None:
        sys.exit(verdict.exit_code)
    sys.exit(1 if verdict.damaged else 0)


def _write(path: Path, page: str) -> None:
    """Write the page whole or not at all, in place of an older page but of nothing else.

    With pictures it shows a raw face: nobody but its owner may read it, at no moment.
    """
    _require_replaceable(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(page)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from None
    click.echo(f"report: {path} ({len(page.encode()) / 1e3:.0f} kB)", err=True)


def _require_replaceable(path: Path) -> None:
    """Raise `Conflict` where something lies at `path` that is no HTML page: a recording, for one."""
    try:
        if not path.exists():
            return
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_BEGINS)) == _BEGINS:
                    return
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror}") from None
    raise Conflict(f"{path} is there already, and is no report; name another file")


def _what_if_json(found: PolicyReplay, other: WhatIf) -> dict[str, Any]:
    story = found.story
    start_ms = story.metrics[0].id.ms if story.metrics else 0
    return {
        "sid": story.sid,
        "events": found.verdict.events,
        "changed": {name: {"recorded": was, "what_if": now} for name, (was, now) in other.changed.items()},
        "recorded": as_json(story.decisions, start_ms),
        "what_if": as_json(other.decisions, start_ms),
        "note": OPEN_LOOP,
        "problems": found.verdict.problems,
    }


def _plain(text: str) -> str:
    """Return what a recording says as text that neither the console nor the terminal obeys."""
    return marked(safe(text))


def _show(console: Console, found: PolicyReplay) -> None:
    verdict = found.verdict
    console.print(
        f"session {_plain(verdict.sid)}: {verdict.events} events, {verdict.decisions} decisions compared",
        soft_wrap=True,
    )
    for problem in verdict.problems:
        console.print(f"[red]problem[/] {_plain(problem)}", soft_wrap=True)
    if not verdict.complete:
        console.print(
            f"the session's end is not among the events: {verdict.pending} decisions after the last recorded one are"
            f" pending, {verdict.ahead} recorded ones are ahead of the events; neither was compared",
            soft_wrap=True,
        )
    if found.what_if is not None:
        _show_what_if(console, found, found.what_if)
    elif verdict.first_difference is not None:
        _show_difference(console, verdict)
    elif not verdict.damaged and verdict.decisions:
        console.print("[green]the same[/], byte for byte")
    elif not verdict.damaged:
        console.print("[green]the same[/]: no decision was recorded, and none came out")


def _show_difference(console: Console, verdict: Verdict) -> None:
    told = verdict.first_difference or {}
    console.print(f"[red]different[/] after {verdict.same} decisions: {told['meaning']}", soft_wrap=True)
    table = Table("", "ID", "what")
    for label, name in (("folding leads to", "expected"), ("recorded", "got"), ("because of", "cause")):
        one = told[name]
        if one is None:
            table.add_row(label, "-", "nothing")
        else:
            table.add_row(label, one["id"], _plain(one.get("text") or one["unreadable"]))
    console.print(table)
    if told["expected"] and told["got"]:
        console.print(f"bytes expected {told['expected']['bytes']}", soft_wrap=True)
        console.print(f"bytes recorded {told['got']['bytes']}", soft_wrap=True)
    table = Table("policy state", "before the event", "after it")
    for name, (before, after) in told["changed"].items():
        table.add_row(name, _plain(str(before)), _plain(str(after)))
    console.print(table)


def _show_what_if(console: Console, found: PolicyReplay, other: WhatIf) -> None:
    table = Table("threshold", "recorded", "what-if")
    for name, (was, now) in other.changed.items():
        table.add_row(name, str(was), str(now))
    console.print(table if other.changed else "the thresholds are those of the recording")
    rows = side_by_side(found.story, other)
    if not rows:
        console.print("no decision was recorded, and none would have been made")
        return
    table = Table("time", f"recorded ({len(found.story.decisions)})", f"what-if ({len(other.decisions)})")
    for at, recorded, instead in rows[:_TABLE_ROWS]:
        table.add_row(at, _plain(recorded), _plain(instead))
    console.print(table)
    if len(rows) > _TABLE_ROWS:
        console.print(f"{len(rows) - _TABLE_ROWS} more rows: see --json or --report")
    console.print(f"[yellow]open loop[/]: {OPEN_LOOP}", soft_wrap=True)
