"""The short table of a demo run, and what makes it a failure."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from ops.demo.figures import Metrics
from ops.demo.live import Performance


def problems(found: Metrics, performance: Performance) -> list[str]:
    """Return what makes the run a failure, in words; empty when all went well."""
    wrong = []
    if not found["frames_out"]:
        wrong.append("no frame came back")
    elif "swapped" not in found["outcomes"]["video"]:
        wrong.append("no frame was swapped, all were covered: is there a face in the video?")
    if not performance.main.recording.of("audio"):
        wrong.append("no sound came back")
    elif "converted" not in found["outcomes"]["voice"]:
        wrong.append("no sound was converted, all was silenced: is there speech?")
    if leaked := found["raw_frames_leaked"]:
        wrong.append(f"{leaked} frames show the performer's raw face")
    if leaked := found["raw_sound_windows_leaked"]:
        wrong.append(f"{leaked} windows of the speaker's raw voice came through")
    if performance.restarts:
        wrong.append(f"processes died and were started again: {', '.join(performance.restarts)}")
    if not found["viewer"]["identical"]:
        wrong.append("the viewer got other frames than the publisher")
    complaints = Counter(performance.main.recording.complaints)
    wrong += [f"the server refused input {times} times ({complaint})" for complaint, times in complaints.items()]
    return wrong


def show(console: Console, found: Metrics) -> None:
    """Print the short table."""
    table = Table("", "figure", "p50", "p95", "p99", title="Mirage demo")
    frames = f"{found['frames_in']} / {found['frames_out']} / {found['frames_dropped']}"
    table.add_row("frames", "in / out / dropped", frames)
    table.add_row("", "out a second", _text(found["fps_out"]))
    for label, timed in (
        ("video ms", found["stage_ms"]["video"]),
        ("512x512 ms", found["stage_ms_512_synthetic"]["video"]),
        ("voice ms", found["stage_ms"]["voice"]),
    ):
        _add_stages(table, label, timed)
    _add(table, "around engine, ms", "added latency", found["added_latency_ms"])
    _add(table, "sound", "runtime / length", found["audio_ratio"])
    _add(table, "", "video - sound, ms", found["av_skew_ms"])
    table.add_row("", "underruns", _text(found["underruns"]))
    _add_pair(table, "voice likeness", "before / after", found["voice_similarity"])
    _add_pair(table, "face likeness", "portrait / own", found["identity"])
    table.add_row(
        "raw leaked", "frames / windows", f"{found['raw_frames_leaked']} / {found['raw_sound_windows_leaked']}"
    )
    console.print(table)


def _add_stages(table: Table, label: str, timed: Mapping[str, Mapping[str, float | None]]) -> None:
    for number, (stage, values) in enumerate(timed.items()):
        _add(table, label if number == 0 else "", stage, values)


def _add(table: Table, label: str, name: str, values: Mapping[str, float | None]) -> None:
    table.add_row(label, name, *(_text(values[key]) if key in values else "" for key in ("p50", "p95", "p99")))


def _add_pair(table: Table, label: str, name: str, values: Mapping[str, float | None]) -> None:
    table.add_row(label, name, " / ".join(_text(value) for value in values.values()))


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
