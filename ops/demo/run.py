"""The demo from start to end: inputs, the live part, the judgement, and the files it leaves."""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from ops.demo import measure, render
from ops.demo.figures import Metrics, metrics
from ops.demo.inputs import Choice, load
from ops.demo.live import Progress, own_system, perform_all
from ops.demo.report import problems
from schemas.errors import Misconfigured

VIDEO, SHEET, METRICS = "before_after.mp4", "contact_sheet.jpg", "metrics.json"


def run_demo(choice: Choice, seconds: float, out: Path, progress: Progress) -> tuple[Metrics, list[str]]:
    """Run the demo and write its files to `out`; returns the figures, and what went wrong.

    Raises a `MirageError` where there is nothing to measure: inputs that do not decode, a system that does not start.
    """
    folder = folder_for(out, (VIDEO, SHEET, METRICS))
    progress("reading", 0)
    inputs = load(choice, seconds)
    with own_system(os.environ) as system:
        performance = uvloop.run(perform_all(system, inputs, seconds, progress))
    script, recording = performance.main.script, performance.main.recording
    pictures = measure.pictures(inputs, script, recording, partial(progress, "judging"))
    sound = measure.sound(inputs, script, recording)
    found = metrics(performance, pictures, sound)
    render.before_after(folder / VIDEO, script, recording, partial(progress, "writing"))
    render.contact_sheet(folder / SHEET, script, recording)
    (folder / METRICS).write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return found, problems(found, performance)


def folder_for(out: Path, names: Sequence[str]) -> Path:
    """Return the folder `out`, made where it is missing, without files of these names; raises `Misconfigured`."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name in names:  # an older run's files must not pass for this one's
            (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise Misconfigured(f"--out: {out} cannot be written: {error}") from None
    return out
