"""The report's tiles: a session in a dozen figures."""

from collections.abc import Sequence
from html import escape

from ops.replay.timeline import Lanes, Point, SessionTimeline
from ops.replay.verdict import Verdict
from ops.replay.words import clock

_UNFOLDED = "not known: the events were not folded"


def tiles(verdict: Verdict, line: SessionTimeline, recorded: Lanes) -> str:
    """Return the tiles."""
    frames = sum(count for name, count in line.outcomes.items() if name.startswith("video"))
    dropped = sum(count for what, found in line.drops.items() if what.startswith("frame") for _, count in found)
    found = [
        ("frames out", f"{frames:,}", _parts(line, "video")),
        ("frames left out", f"{dropped:,}", _share(dropped, frames + dropped)),
        ("video behind sound", _at([value for _, value in line.late_ms], 0.5, "ms"), _tail(line.late_ms, "ms")),
        ("a frame takes", _of_time(line.video_ratio, 0.5), f"of its time; 95th: {_of_time(line.video_ratio, 0.95)}"),
        ("a chunk takes", _of_time(line.audio_ratio, 0.5), f"of its time; 95th: {_of_time(line.audio_ratio, 0.95)}"),
        ("chunks accepted", *_accepted(line)),
        ("detector runs", *_detector(line)),
        ("end to end", _at([value for _, value in line.e2e_ms], 0.5, "ms"), "median of the publisher's player"),
        ("lowest video rung", f"{max(value for _, value in recorded.rung):.0f}", _time_at(recorded.rung, line)),
        ("chunks", _range(recorded.chunk), _time_at(recorded.chunk, line, unit=" ms")),
        ("voice not converted", clock(sum(end - start for start, end, _ in recorded.voice))[:-2], "of the session"),
        ("workers took over", str(max(0, len(line.took) - len({kind for _, kind, _ in line.took}))), "after the first"),
        ("decisions", str(verdict.decisions), f"{verdict.same} the same"),
    ]
    body = "".join(
        f"<div><dt>{escape(name)}</dt><dd><b>{escape(value)}</b><span>{escape(more)}</span></dd></div>"
        for name, value, more in found
    )
    return f'<dl class="tiles">{body}</dl>'


def _parts(line: SessionTimeline, media: str) -> str:
    parts = [(name.split(" ", 1)[1], count) for name, count in line.outcomes.most_common() if name.startswith(media)]
    return ", ".join(f"{count:,} {name}" for name, count in parts) or "none"


def _accepted(line: SessionTimeline) -> tuple[str, str]:
    """Return the share of chunks that were done early enough, and what that means."""
    if line.state is None:
        return "-", _UNFOLDED
    if not line.state.audio.converted:
        return "-", "no chunk counted"
    audio, limit_pm = line.state.audio, line.state.config.chunk_accept_pm
    share = f"{audio.accepted / audio.converted:.1%}"
    return share, f"took under {limit_pm / 10:g}% of their time, of {audio.converted:,} converted that counted"


def _detector(line: SessionTimeline) -> tuple[str, str]:
    """Return how often faces are looked for, and how often there was one."""
    if line.state is None:
        return "-", _UNFOLDED
    if not line.state.faces.frames:
        return "-", "no frame came out"
    faces = line.state.faces
    mean, shown = faces.mean_interval_milli, f"a face in {faces.with_faces / faces.frames:.1%} of frames"
    if mean is None:
        return str(faces.detections), shown
    return f"every {mean / 1000:.1f} frames", f"longest wait: {faces.longest} frames; {shown}"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%} of all" if whole else "-"


def _quantile(values: Sequence[float], q: float) -> float | None:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None


def _at(values: Sequence[float], q: float, unit: str) -> str:
    found = _quantile(values, q)
    return "-" if found is None else f"{found:.0f} {unit}"


def _tail(points: Sequence[Point], unit: str) -> str:
    values = [value for _, value in points]
    return f"median; 95th: {_at(values, 0.95, unit)}, most: {_at(values, 1, unit)}"


def _of_time(points: Sequence[Point], q: float) -> str:
    found = _quantile([value for _, value in points], q)
    return "-" if found is None else f"{found:.0%}"


def _range(points: Sequence[Point]) -> str:
    low, high = min(value for _, value in points), max(value for _, value in points)
    return f"{low:.0f} ms" if low == high else f"{low:.0f}-{high:.0f} ms"


def _time_at(points: Sequence[Point], line: SessionTimeline, *, unit: str = "") -> str:
    """Return the share of time at each value, the longest first."""
    spent: dict[float, int] = {}
    ends = [at for at, _ in points[1:]] + [line.length_ms]
    for (at, value), end in zip(points, ends, strict=True):
        spent[value] = spent.get(value, 0) + max(0, end - at)
    ordered = sorted(spent.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{value:.0f}{unit}: {time / line.length_ms:.0%}" for value, time in ordered)
