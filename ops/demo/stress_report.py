"""The short table of a stress run: what happened when."""

from itertools import chain
from typing import Any

from rich.console import Console
from rich.table import Table

from ops.demo.figures import Metrics


def show_course(console: Console, found: Metrics) -> None:
    """Print the short table."""
    stress = found["stress"]
    table = Table("at, s", "what", title="Mirage under stress")
    for at_s, what in told(stress):
        table.add_row(f"{at_s:.1f}", what)
    console.print(table)
    table = Table("figure", "")
    dropped = ", ".join(f"{reason} {count}" for reason, count in stress["drops"].items())
    table.add_row(
        "frames in / out / dropped", f"{found['frames_in']} / {found['frames_out']} / {found['frames_dropped']}"
    )
    table.add_row("dropped by reason", dropped or "none")
    table.add_row("drop floors", str(stress["drop_floors"]["count"]))
    recovery = stress["recovery_s"]
    table.add_row(
        "back at the top after",
        f"not yet: rung {stress['last_rung']}" if recovery is None else f"{recovery:g} s of calm",
    )
    table.add_row(
        "send to receipt, p50 / p99 ms", " / ".join(str(value) for value in found["send_to_receipt_ms"].values())
    )
    table.add_row("video - sound, p50 / p95 ms", " / ".join(str(value) for value in found["av_skew_ms"].values()))
    table.add_row("underruns", str(found["underruns"]))
    table.add_row(
        "raw frames / sound windows leaked", f"{found['raw_frames_leaked']} / {found['raw_sound_windows_leaked']}"
    )
    clicks = stress["click_ratio"]
    table.add_row(
        "click ratio at chunk changes / elsewhere", f"{clicks['at_chunk_changes']} / {clicks['between_seams']}"
    )
    replay, media = stress["replay"], stress["media"]
    table.add_row("replayed", f"{replay['events']} events, {replay['decisions']} decisions: {_sameness(replay)}")
    table.add_row("replayed media", f"{media['compared']} outputs, {media['equal']} equal: {_sameness(media)}")
    console.print(table)


def _sameness(replay: dict[str, Any]) -> str:
    return "the same" if replay["first_difference"] is None and not replay["problems"] else "DIFFERENT"


def told(stress: dict[str, Any]) -> list[tuple[float, str]]:
    """Return what happened, in order of time."""
    rungs = (
        (step["at_s"], f"video rung {step['rung']}, {step['size']} px ({step['rule']})") for step in stress["rungs"]
    )
    chunks = ((step["at_s"], f"chunks of {step['chunk_ms']} ms ({step['rule']})") for step in stress["chunks"])
    skips = chain.from_iterable(
        [(skip["from_s"], f"soft skip: one frame of {skip['of']} left out")]
        + ([] if skip["to_s"] is None else [(skip["to_s"], f"soft skip ends ({skip['ended_by']})")])
        for skip in stress["soft_skips"]
    )
    first = stress["drop_floors"]["first_s"]
    floors = [] if first is None else [(first, "first drop floor: late frames are dropped")]
    others = ((one["at_s"], one["rule"]) for one in stress["others"])
    return sorted(chain(rungs, chunks, skips, floors, others))
