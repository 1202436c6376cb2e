"""`mirage policy`: thresholds checked, and those in force shown."""

from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console
from rich.table import Table

from ops.archive.find import find_session
from ops.commands.common import connected, emit, json_option, start
from ops.policy_file import load_policy
from ops.policy_thresholds import thresholds
from ops.replay.story import Opening, Story
from ops.settings import Settings
from ops.wiring import archive_dir
from schemas.errors import NotFound
from schemas.policy_config import RULES_VERSION, PolicyConfig


@click.group()
def policy() -> None:
    """Check thresholds of the adaptation, and show those in force."""


@policy.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, *, as_json: bool) -> None:
    """Check a TOML file with thresholds, and print what it changes; exit code 2 for one that cannot be used."""
    start(role="cli")
    _print(load_policy(file), str(file), RULES_VERSION, as_json=as_json)


@policy.command()
@click.argument("session", metavar="[SESSION|FILE]", required=False)
@json_option
def show(session: str | None, *, as_json: bool) -> None:
    """Show the thresholds of new sessions, or those that a session was recorded with."""
    settings = start(role="cli")
    if session is None:
        source = "defaults" if settings.policy is None else f"MIRAGE_POLICY={settings.policy}"
        _print(load_policy(settings.policy), source, RULES_VERSION, as_json=as_json)
        return
    opening = uvloop.run(_opening(settings, session))
    if opening.started is None:
        raise NotFound(f"{session} does not begin with session_started: its thresholds are not known")
    _print(opening.config, f"session {session}", opening.started.rules_version, as_json=as_json)


async def _opening(settings: Settings, session: str) -> Opening:
    found = await find_session(
        session, folder=archive_dir(settings), connect=lambda: connected(settings), streams=("metrics",)
    )
    return Story.of(found).opening


def _print(config: PolicyConfig, source: str, rules_version: int, *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "name": threshold.name,
            "value": getattr(config, threshold.name),
            "default": threshold.default,
            "changed": getattr(config, threshold.name) != threshold.default,
            "unit": threshold.unit,
            "accepted": threshold.accepted,
            "meaning": threshold.meaning,
        }
        for threshold in thresholds()
    ]

    def human(console: Console) -> None:
        table = Table(title=f"Policy: {source}")
        for heading in ("threshold", "value", "default", "unit"):
            table.add_column(heading, no_wrap=True)
        table.add_column("meaning")
        for row in rows:
            value = f"[bold yellow]{row['value']} *[/]" if row["changed"] else str(row["value"])
            table.add_row(row["name"], value, str(row["default"]), row["unit"], row["meaning"])
        console.print(table)
        changed = sum(row["changed"] for row in rows)
        console.print(f"{changed} of {len(rows)} thresholds are not the default (marked *); rules {rules_version}")

    emit(
        {"source": source, "rules_version": rules_version, "thresholds": rows},
        as_json=as_json,
        human=human,
    )
