"""`mirage sessions` and `mirage token`."""

import time
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from ingress.tokens import EVERYTHING, Scope
from ops.commands.common import LOCAL_USER, connected, emit, json_option, run, start
from ops.ingress import key_ring
from ops.installation import Installation
from ops.settings import Settings
from ops.wiring import session_store
from schemas.names import Kind, SessionKeys
from schemas.session_store import WORK


@click.command()
@json_option
def sessions(*, as_json: bool) -> None:
    """List the live sessions."""
    run(_list(start(role="cli"), as_json=as_json))


async def _list(settings: Settings, *, as_json: bool) -> None:
    async with connected(settings) as planes:
        store = session_store(planes, settings)
        rows: list[dict[str, Any]] = []
        for sid in await store.live():
            record, keys = (await store.load(sid)).record, SessionKeys(sid)
            rows.append(
                {
                    "sid": sid,
                    "owner": record.owner,
                    "faces": list(record.faces),
                    "voice": record.voice,
                    "created_ms": record.created_ms,
                    "frames_out": await planes.media.length(keys.video_out),
                    "events": await planes.events.length(keys.metrics),
                }
            )

        waiting = {
            kind.value: await planes.events.waiting(kind, idle_ms=settings.lease_ms) for kind in (*WORK, Kind.RECORD)
        }

    def human(console: Console) -> None:
        table = Table(Column("session", no_wrap=True, min_width=32))  # whole: it is what other commands ask for
        for heading in ("owner", "faces", "voice", "frames kept", "events"):
            table.add_column(heading, no_wrap=True)
        for row in rows:
            shown = {**row, "faces": " ".join(dict.fromkeys(row["faces"]))}
            cells = ("sid", "owner", "faces", "voice", "frames_out", "events")
            table.add_row(*(escape(str(shown[cell])) for cell in cells))
        console.print(table if rows else "no live sessions")
        console.print("waiting for a worker: " + ", ".join(f"{kind} {count}" for kind, count in waiting.items()))

    emit({"sessions": rows, "waiting": waiting}, as_json=as_json, human=human)


@click.command()
@click.option("--sub", default=LOCAL_USER, show_default=True, help="Who the token is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="May be given several times; all of them when absent.",
)
@click.option("--ttl", default=3600, show_default=True, type=click.IntRange(1, 86_400), help="Seconds it lives.")
def token(sub: str, scopes: tuple[str, ...], ttl: int) -> None:
    """Print a login token signed with this installation's key."""
    settings = start(role="cli")
    keys = key_ring(settings, Installation(settings.data_dir))
    click.echo(keys.login(sub, scopes or [scope.value for scope in EVERYTHING], now_s=int(time.time()), ttl_s=ttl))
