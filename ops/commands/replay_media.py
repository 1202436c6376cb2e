"""`mirage replay --media`: the recorded input through the engines again, every output compared."""

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ops.archive.find import find_session
from ops.commands.common import connected, emit
from ops.replay.media.run import replay_media, replayable
from ops.replay.media.verdict import MEASURES, MediaVerdict, Tally
from ops.replay.media.worn import events_plane
from ops.replay.words import safe
from ops.settings import Settings
from ops.wiring import archive_dir


async def media_verdict(settings: Settings, target: str, *, speed: float | None, close: bool) -> MediaVerdict:
    """Find the session and replay its media; raises as `find_session`, `events_plane` and `replay_media` do."""
    session = await find_session(target, folder=archive_dir(settings), connect=lambda: connected(settings))
    replayable(session)  # before a server is started for it
    async with events_plane(settings) as events:
        return await replay_media(session, settings, events, speed=speed, close=close)


def show(verdict: MediaVerdict, *, as_json: bool) -> None:
    """Print what the replay said."""
    emit(verdict.as_json(), as_json=as_json, human=lambda console: _show(console, verdict))


def _show(console: Console, verdict: MediaVerdict) -> None:
    span = f"{verdict.recorded_s:.1f} s of media in {verdict.took_s:.1f} s"
    console.print(f"session {escape(safe(verdict.sid))}: {span}", soft_wrap=True)
    for problem in verdict.problems:
        console.print(f"[red]problem[/] {escape(safe(problem))}", soft_wrap=True)
    table = Table("", *(f"{tally.medium.name} ({tally.engine})" for tally in verdict.tallies))
    for name, of in _ROWS.items():
        table.add_row(name, *(of(tally) for tally in verdict.tallies))
    console.print(table)
    first = verdict.first_difference
    if first is None:
        exact = all(tally.exact for tally in verdict.tallies)
        if not verdict.problems:
            console.print("[green]the same[/], byte for byte" if exact else "[green]the same[/], within the bounds")
        return
    told = first.as_json()
    figure = told[MEASURES[first.medium].name]
    console.print(
        f"[red]different[/]: the first is {first.medium} input {first.id} at {first.pts_us / 1e6:.3f} s,"
        f" {first.kind}: {escape(safe(first.detail))}" + ("" if figure is None else f" ({figure} dB)"),
        soft_wrap=True,
    )


def _likeness(tally: Tally) -> str:
    if tally.compared and tally.equal == tally.compared:
        return "equal"
    measure = MEASURES[tally.medium.name]
    told = tally.as_json()
    worst = told[f"{measure.name}_{measure.worst_name}"]
    sign = "at least" if measure.worst_name == "min" else "at most"
    return f"{sign} {'-' if worst is None else worst} dB (bound {measure.bound:g})"


_ROWS: dict[str, Callable[[Tally], str]] = {
    "outputs compared": lambda tally: str(tally.compared),
    "equal": lambda tally: str(tally.equal),
    "different": lambda tally: str(tally.different),
    "likeness": _likeness,
    "inputs dropped then": lambda tally: str(tally.dropped),
    "owners": lambda tally: str(tally.owners),
    "changes of identity": lambda tally: str(tally.changes),
}
