"""Which lanes the timeline has, and the values under its cursor."""

from collections.abc import Sequence
from typing import Any

from ops.replay.report.charts import BINS, Line, Scale, axis, bands, bars, densest, empty, lane, percent, series, steps
from ops.replay.timeline import Lanes, Point, SessionTimeline, binned
from schemas.policy_config import CHUNK_LADDER_MS, VIDEO_LADDER, PolicyConfig

Tracks = Sequence[tuple[str, Lanes]]
_CURSOR_BINS = 600
_SIGNS = {"video": "V", "voice": "S", "policy": "P", "record": "R"}
_APART = 0.02
"""Workers that took the session closer together than this share of its length have one sign."""


def timeline_lanes(line: SessionTimeline, tracks: Tracks, config: PolicyConfig) -> str:
    """Return every lane under the time axis; `tracks` are what was recorded and, if asked for, what-if."""
    length = line.length_ms
    late = [Line(config.skip_late_us / 1000, "soft skip above"), Line(config.sync_drop_us / 1000, "drop above")]
    sound = [
        Line(config.chunk_shrink_pm / 1000, "shorter chunks below"),
        Line(config.chunk_grow_pm / 1000, "longer chunks above"),
    ]
    video = [Line(config.video_up_pm / 1000, "up a rung below"), Line(config.video_down_pm / 1000, "down a rung above")]
    made = axis(length)
    made += lane(
        "late", "Lateness", "video behind the sound; each time sound moves on",
        series(line.late_ms, _scale(line.late_ms, late, "ms"), late, length), height=110,
    )  # fmt: skip
    made += lane(
        "video", "Video", "time a frame takes, of the time that there is at the rung in force",
        series(line.video_ratio, _scale(line.video_ratio, video, "%"), video, length), height=110,
    )  # fmt: skip
    made += lane(
        "rung", "Video rung", "0 is full quality; lower on the page is worse", _rungs(tracks, length), height=130
    )
    made += lane(
        "audio", "Sound", "time a chunk takes to convert, of its own length",
        series(line.audio_ratio, _scale(line.audio_ratio, sound, "%"), sound, length), height=110,
    )  # fmt: skip
    levels = [(float(n), f"{ms} ms", "") for n, ms in enumerate(CHUNK_LADDER_MS)]
    chunks = [(side, [(at, _rung_of(value)) for at, value in found.chunk]) for side, found in tracks]
    made += lane(
        "chunk", "Chunk size", "how much sound is converted at once", steps(chunks, levels, length), height=110
    )
    if line.e2e_ms:
        target = [Line(config.latency_us / 1000, "target")]
        made += lane(
            "e2e", "End to end", "from capture to the publisher's own player",
            series(line.e2e_ms, _scale(line.e2e_ms, target, "ms"), target, length), height=90,
        )  # fmt: skip
    made += _states(tracks, length) + _drops(line) + _workers(line)
    return made


def _rung_of(chunk_ms: float) -> float:
    """Return the place of a chunk size on the ladder; beside it for one that is not on it."""
    return float(sum(1 for ms in CHUNK_LADDER_MS if ms < chunk_ms))


def _scale(points: list[Point], lines: Sequence[Line], unit: str) -> Scale:
    """Return a scale that shows the thresholds and nearly every value: one outlier must not flatten the rest."""
    values = sorted(value for _, value in points)
    common = values[int(0.995 * (len(values) - 1))] if values else 0.0
    low = min(0.0, values[int(0.005 * (len(values) - 1))]) if values else 0.0
    return Scale(low, max(common, *(line.at * 1.25 for line in lines)) * 1.05, unit)


def _rungs(tracks: Tracks, length_ms: int) -> str:
    worst = len(VIDEO_LADDER) - 1
    levels = [
        (float(-n), str(n), f": q{rung.quality} {rung.fps}/s {rung.size}")
        for n, rung in reversed(list(enumerate(VIDEO_LADDER)))
    ]
    turned = [(side, [(at, -min(value, worst)) for at, value in found.rung]) for side, found in tracks]
    return steps(turned, levels, length_ms)


def _states(tracks: Tracks, length_ms: int) -> str:
    made = ""
    for side, found in tracks:
        name = f", {side}" if len(tracks) > 1 else ""
        for key, what, meaning, mine, style in (
            ("voice", "Voice", "hatched while it was not converted", found.voice, "silent"),
            ("skip", "Soft skip", "dotted while single frames were left out", found.skip, "skipping"),
        ):
            body = bands(mine, length_ms, style=style) or empty("never")
            made += lane(f"{key} {side}", f"{what}{name}", meaning, body, height=26)
    return made


def _drops(line: SessionTimeline) -> str:
    if not line.drops:
        return lane("drops", "Left out", "nothing was dropped, skipped or refused", empty("nothing"), height=26)
    return "".join(
        lane(
            f"drop {what}",
            f"Left out: {what}",
            f"{sum(count for _, count in drops):,} in all; {densest(drops, line.length_ms)}",
            bars(drops, line.length_ms),
            height=34,
        )
        for what, drops in sorted(line.drops.items())
    )


def _workers(line: SessionTimeline) -> str:
    tags: list[tuple[int, str]] = []
    for at, kind, _ in line.took:
        sign = _SIGNS.get(kind, "?")
        if tags and at - tags[-1][0] < line.length_ms * _APART:
            tags[-1] = (tags[-1][0], tags[-1][1] + sign)
        else:
            tags.append((at, sign))
    body = "".join(
        f'<i class="took" style="left:{percent(at, line.length_ms)}%">{" ".join(dict.fromkeys(signs))}</i>'
        for at, signs in tags
    )
    meaning = "when one took the session: V video, S sound, P policy, R recorder"
    return lane("took", "Workers", meaning, body or empty("none"), height=30)


def cursor_values(line: SessionTimeline, tracks: Tracks, stops: list[int]) -> dict[str, Any]:
    """Return what the page's cursor reads: binned series, steps, and where decisions are."""
    bins = min(_CURSOR_BINS, BINS)

    def means(points: list[Point], digits: int) -> list[float | None]:
        row: list[float | None] = [None] * bins
        for at, _, mean, _ in binned(points, line.length_ms, bins):
            row[min(bins - 1, int(at * bins / line.length_ms))] = round(mean, digits)
        return row

    return {
        "length": line.length_ms,
        "series": {
            "late": {"unit": "ms", "values": means(line.late_ms, 0)},
            "video": {"unit": "%", "values": means(line.video_ratio, 3)},
            "audio": {"unit": "%", "values": means(line.audio_ratio, 3)},
            "e2e": {"unit": "ms", "values": means(line.e2e_ms, 0)},
        },
        "steps": {
            name: [{"side": side, "points": getattr(found, name)} for side, found in tracks]
            for name in ("rung", "chunk")
        },
        "stops": stops[:2000],
    }
