"""`mirage export`: a session as a file that replay and Foxglove open."""

from pathlib import Path

import click
from rich.console import Console

from ops.archive.export import export_archive
from ops.archive.find import find_session
from ops.archive.model import EVENT_STREAMS, STREAMS
from ops.commands.common import connected, emit, json_option, run, start
from ops.settings import Settings
from ops.wiring import archive_dir


@click.command()
@click.argument("session")
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="New file, for example OUT.mcap.",
)
@click.option("--events-only", is_flag=True, help="Metrics, decisions and facts, without pictures and sound.")
@json_option
def export(session: str, out: Path, *, events_only: bool, as_json: bool) -> None:
    """Write SESSION, live or recorded, or the archive in file SESSION, to a new archive with a whole index.

    What is missing or damaged is said, and everything else is written: so a torn archive is repaired.
    """
    streams = EVENT_STREAMS if events_only else STREAMS
    run(_export(start(role="cli"), session, out, streams, as_json=as_json))


async def _export(settings: Settings, target: str, out: Path, streams: tuple[str, ...], *, as_json: bool) -> None:
    session = await find_session(
        target, folder=archive_dir(settings), connect=lambda: connected(settings), streams=streams
    )
    written = export_archive(session, out, streams)
    result = {
        "sid": session.sid,
        "out": str(out),
        "bytes": written.size,
        "entries": written.entries,
        "problems": list(session.problems),
    }
    for problem in session.problems:
        click.echo(f"mirage: {problem}", err=True)

    def human(console: Console) -> None:
        shown = ", ".join(f"{stream} {count}" for stream, count in written.entries.items() if count)
        console.print(f"session {session.sid}: {shown}", soft_wrap=True)
        console.print(f"{out} ({written.size / 1e6:.1f} MB)", soft_wrap=True)

    emit(result, as_json=as_json, human=human)
