"""`mirage export`: a session as a file that replay and Foxglove open."""

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from ops.archive.consent import require_copy_consent
from ops.archive.export import export_archive
from ops.archive.find import find_session
from ops.archive.live import KeptSession
from ops.archive.model import EVENT_STREAMS, MEDIA_STREAMS, STREAMS, RecordedSession
from ops.commands.common import connected, emit, json_option, run, start
from ops.replay.words import safe
from ops.settings import Settings
from ops.wiring import archive_dir


@click.command()
@click.argument("session")
@click.option(
    "-o",
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="New file, for example OUT.mcap.",
)
@click.option(
    "--rerun",
    type=click.Path(dir_okay=False, path_type=Path),
    help="New file OUT.rrd for the Rerun viewer instead; needs pip install -e '.[rerun]'.",
)
@click.option("--events-only", is_flag=True, help="Metrics, decisions and facts, without pictures and sound.")
@json_option
def export(session: str, out: Path | None, rerun: Path | None, *, events_only: bool, as_json: bool) -> None:
    """Write SESSION, live or recorded, or the archive in file SESSION, to a new archive with a whole index.

    What is missing or damaged is said, and everything else is written: so a torn archive is repaired. Pictures and
    sound of a session that was not recorded are written where the consents of its face and voice cover `record`; exit
    code 4 where they do not.
    """
    streams = EVENT_STREAMS if events_only else STREAMS
    if rerun is not None and out is None and not events_only:
        run(_export_rerun(start(role="cli"), session, rerun, as_json=as_json))
    elif out is not None and rerun is None:
        run(_export(start(role="cli"), session, out, streams, as_json=as_json))
    else:
        raise click.UsageError("name one file: --out OUT.mcap, or --rerun OUT.rrd (without --events-only)")


async def _find(settings: Settings, target: str, streams: tuple[str, ...]) -> RecordedSession:
    """Find the session; media that is only on streams was not recorded, so its identities must allow that now."""
    session = await find_session(
        target, folder=archive_dir(settings), connect=lambda: connected(settings), streams=streams
    )
    if isinstance(session, KeptSession) and not set(MEDIA_STREAMS).isdisjoint(streams):
        async with connected(settings) as planes:
            await require_copy_consent(session, planes.events)
    return session


async def _export_rerun(settings: Settings, target: str, out: Path, *, as_json: bool) -> None:
    from ops.archive.rerun_file import export_rerun, require_rerun  # noqa: PLC0415 - an extra, and it folds the session

    require_rerun()  # before anything is read
    session = await _find(settings, target, STREAMS)
    written = export_rerun(session, out)
    problems = list(session.problems)
    result = {"sid": session.sid, "out": str(out), "bytes": written.size, "rows": written.rows, "problems": problems}
    for problem in problems:
        click.echo(f"mirage: {safe(problem)}", err=True)

    def human(console: Console) -> None:
        for entity, count in written.rows.items():
            console.print(f"{entity}: {count}", soft_wrap=True)
        console.print(f"{out} ({written.size / 1e6:.1f} MB)", soft_wrap=True)

    emit(result, as_json=as_json, human=human)


async def _export(settings: Settings, target: str, out: Path, streams: tuple[str, ...], *, as_json: bool) -> None:
    session = await _find(settings, target, streams)
    written = export_archive(session, out, streams)
    result = {
        "sid": session.sid,
        "out": str(out),
        "bytes": written.size,
        "entries": written.entries,
        "problems": list(session.problems),
    }
    for problem in session.problems:
        click.echo(f"mirage: {safe(problem)}", err=True)

    def human(console: Console) -> None:
        shown = ", ".join(f"{stream} {count}" for stream, count in written.entries.items() if count)
        console.print(f"session {escape(safe(session.sid))}: {shown}", soft_wrap=True)
        console.print(f"{out} ({written.size / 1e6:.1f} MB)", soft_wrap=True)

    emit(result, as_json=as_json, human=human)
