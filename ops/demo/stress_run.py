"""The stress demo from start to end: a loaded session, its archive, its replay, and the files it leaves."""

import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

from ops.archive.reader import open_archive
from ops.demo import course, measure, render
from ops.demo.figures import Metrics, metrics, percentiles, player
from ops.demo.inputs import Choice, load
from ops.demo.live import Performance, Progress, own_system, perform_recorded
from ops.demo.player import Showing
from ops.demo.publish import Recording, Script
from ops.demo.report import problems
from ops.demo.run import METRICS, SHEET, VIDEO, folder_for
from ops.demo.stress import LEAD_US, LOAD, Load
from ops.replay.media.run import replay_media
from ops.replay.media.verdict import MediaVerdict
from ops.replay.run import PolicyReplay, replay_session
from ops.supervisor import System
from schemas.bus.redis import RedisBus
from schemas.decisions import SetVideo
from schemas.errors import Misconfigured
from schemas.policy_config import VIDEO_LADDER
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.measure import click_ratio

ARCHIVE, REPORT = "session.mcap", "report.html"
FILES = (VIDEO, SHEET, METRICS, ARCHIVE, REPORT)
_SKEW_EVERY_S = 10


@dataclass(frozen=True, slots=True)
class Stressed:
    """What a stress run found."""

    metrics: Metrics
    problems: list[str]
    lacks: list[str]
    """What a run that was cut short did not come to show."""


def run_stress(choice: Choice, seconds: float | None, out: Path, progress: Progress) -> Stressed:
    """Play the load (its first `seconds`), replay what was recorded, and write the files to `out`.

    Its media are replayed while the identities that it wore are there. Raises what `run_demo` and `replay_media` raise.
    """
    folder = folder_for(out, FILES)
    progress("reading", 0)
    seconds = LOAD.seconds if seconds is None else seconds
    inputs = load(choice, seconds)
    script = Script(inputs.clip, inputs.speech, seconds, LOAD.jam)
    archive = folder / ARCHIVE
    with (
        tempfile.TemporaryDirectory(prefix="mirage-archives-") as kept,
        own_system(os.environ, fault=LOAD.fault, archives=Path(kept)) as system,
    ):
        performance = uvloop.run(perform_recorded(system, inputs, script, Path(kept), archive, progress))
        progress("replaying media", 0)
        media = uvloop.run(_replayed_media(system, archive))
    progress("replaying decisions", 0)
    replayed = replay_session(open_archive(archive), tell=True, pictures=True)
    _write_private(folder / REPORT, replayed.page())
    recording = performance.main.recording
    pictures = measure.pictures(inputs, script, recording, partial(progress, "judging"))
    sound = measure.sound(inputs, script, recording)
    stress = stress_figures(LOAD, replayed, media, script, recording)
    found = metrics(performance, pictures, sound) | {"stress": stress}
    caption = partial(_caption, course.timed(replayed.story, course.decoded(replayed.story)))
    render.before_after(folder / VIDEO, script, recording, partial(progress, "writing"), caption=caption)
    render.contact_sheet(folder / SHEET, script, recording)
    (folder / METRICS).write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    return judged(found, performance, replayed, media, whole=seconds >= LOAD.seconds)


async def _replayed_media(system: System, archive: Path) -> MediaVerdict:
    events = RedisBus(system.events_url)
    try:
        return await replay_media(open_archive(archive), system.settings, events)
    finally:
        await events.close()


def judged(
    found: Metrics, performance: Performance, replayed: PolicyReplay, media: MediaVerdict, *, whole: bool
) -> Stressed:
    """Return the run with what went wrong; a run that was `whole` must have shown everything."""
    wrong = problems(found, performance)
    if replayed.verdict.exit_code:
        told = replayed.verdict.first_difference or {}
        why = "; ".join(replayed.verdict.problems) or told.get("meaning", "")
        wrong.append(f"the replay of the recorded session is not the same: {why}")
    if media.exit_code:
        first = media.first_difference
        why = "; ".join(media.problems) or (f"{first.medium} input {first.id}, {first.detail}" if first else "")
        wrong.append(f"its media do not come out again: {why}")
    lacks = course.lacks(found["stress"])
    if whole:
        wrong += [f"not seen: {what}" for what in lacks]
    return Stressed(found, wrong, [] if whole else lacks)


def stress_figures(
    load: Load, replayed: PolicyReplay, media: MediaVerdict, script: Script, recording: Recording
) -> dict[str, Any]:
    """Return what happened when, what replaying it said, and what it was like to watch and to hear."""
    verdict = replayed.verdict
    found = course.course(load, replayed.story)
    track = measure.converted_sound(recording, len(script.speech))
    seams = _seams(recording, len(track))
    sizes = {at for at, _ in _changes(recording)}
    return found | {
        "replay": {
            "events": verdict.events,
            "decisions": verdict.decisions,
            "first_difference": verdict.first_difference,
            "problems": verdict.problems,
        },
        "media": {
            "compared": sum(tally.compared for tally in media.tallies),
            "equal": sum(tally.equal for tally in media.tallies),
        }
        | {name: media.as_json()[name] for name in ("first_difference", "problems", "took_s")},
        "chunk_changes_heard": [{"at_s": round(at / SAMPLE_RATE, 2), "chunk_ms": ms} for at, ms in _changes(recording)],
        "click_ratio": {
            "at_chunk_changes": _largest(track, sorted(sizes)),
            "at_seams": _percentile(track, seams),
            "between_seams": _percentile(track, [at + 128 for at in seams]),
        },
        "skew_over_time_ms": skew_over_time(player(recording)),
    }


def skew_over_time(showing: Showing) -> list[dict[str, Any]]:
    """Return picture against sound for every ten seconds of the publisher's media time."""
    groups: dict[int, list[float]] = {}
    for at_us, skew_us in zip(showing.at_us, showing.skew_us, strict=True):
        groups.setdefault(max(0, at_us) // (_SKEW_EVERY_S * 1_000_000), []).append(skew_us / 1000)
    return [
        {"from_s": number * _SKEW_EVERY_S, **percentiles(values, 5, 50, 95)}
        for number, values in sorted(groups.items())
    ]


def _seams(recording: Recording, length: int) -> list[int]:
    """Return where one chunk ends and the next begins, as samples of the track."""
    starts = (round(arrival.media.pts_us * SAMPLE_RATE / 1_000_000) for arrival in recording.of("audio"))
    return [start for start in starts if 0 < start < length]


def _changes(recording: Recording) -> list[tuple[int, int]]:
    """Return (sample, chunk size in ms) wherever a chunk is longer or shorter than the one before."""
    sound = recording.of("audio")
    return [
        (round(later.media.pts_us * SAMPLE_RATE / 1_000_000), len(later.media.data) // 2 * 1000 // SAMPLE_RATE)
        for earlier, later in pairwise(sound)
        if len(later.media.data) != len(earlier.media.data)
    ]


def _largest(track: Pcm, places: Sequence[int]) -> float | None:
    return round(float(click_ratio(track, places).max()), 1) if places else None


def _percentile(track: Pcm, places: Sequence[int]) -> float | None:
    return round(float(np.percentile(click_ratio(track, places), 99)), 1) if places else None


def _caption(decided: Sequence[course.Timed], pts_us: int) -> str:
    """Return the rung in force at a publisher's media time."""
    steps = [(at_s, one) for at_s, one in decided if isinstance(one, SetVideo)]
    passed = bisect_right([at_s for at_s, _ in steps], (pts_us + LEAD_US) / 1e6)
    number = steps[passed - 1][1].rung if passed else 0
    rung = VIDEO_LADDER[number]
    return f"rung {number}: {rung.size} px, {rung.fps} fps, quality {rung.quality}"


def _write_private(path: Path, page: str) -> None:
    """Write the report; it shows the performer's own face, so only its owner may read it."""
    try:
        path.write_text(page, "utf-8")
        path.chmod(0o600)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be written: {error.strerror}") from None
