"""Lanes of the report's timeline: SVG that stretches with the page, labels in HTML that do not.

Every lane has the same width and the same time, in per cent, so zooming the page zooms all of them and nothing needs a
script. Colours never say anything alone: each lane has its name, its thresholds are labelled lines, each kind of drop
has a row of its own, bands are hatched and named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from ops.replay.timeline import Band, Point, binned, counted
from ops.replay.words import clock

BINS = 900
_DROP_BINS = 240
_GAP_MS = 3_000
"""A line is not drawn across a longer silence."""
_MIN_WIDTH = 0.25  # per cent of a lane, or a short band would not be seen
_NAME_WIDTH = 18  # per cent


@dataclass(frozen=True, slots=True)
class Line:
    """A labelled threshold."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Scale:
    """What a lane's height means."""

    low: float
    high: float
    unit: str

    def y(self, value: float) -> float:
        """Return the height of a value from the top, 0..100."""
        part = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(100 - 100 * part, 1)

    def text(self, value: float) -> str:
        """Return a value with its unit."""
        return f"{value * 100:.0f} %" if self.unit == "%" else f"{value:.0f} {self.unit}"


def lane(key: str, name: str, meaning: str, body: str, *, height: int) -> str:
    """Return one lane: name, meaning, the value under the cursor, and the plot."""
    return (
        f'<section class="lane" aria-label="{escape(name)}"><header><h3>{escape(name)}</h3>'
        f'<output data-value="{key}"></output><p>{escape(meaning)}</p></header>'
        f'<div class="plot" style="height:{height}px">{body}</div></section>'
    )


def series(points: list[Point], scale: Scale, lines: Sequence[Line], length_ms: int) -> str:
    """Return a band from the least to the most of every bin, its mean as a line, and labelled thresholds."""
    groups = binned(points, length_ms, BINS)
    runs: list[tuple[list[str], list[str], list[str]]] = []
    last: float | None = None
    for at, low, middle, high in groups:
        if last is None or at - last > max(_GAP_MS, 3 * length_ms / BINS):
            runs.append(([], [], []))
        top, bottom, mean = runs[-1]
        x = _x(at, length_ms)
        top.append(f"{x} {scale.y(high)}")
        bottom.append(f"{x} {scale.y(low)}")
        mean.append(f"{x} {scale.y(middle)}")
        last = at
    drawn = "".join(f'<path class="spread" d="M{"L".join([*top, *reversed(bottom)])}Z"/>' for top, bottom, _ in runs)
    drawn += "".join(f'<path class="mean" d="M{"L".join(mean)}"/>' for _, _, mean in runs)
    rules = "".join(f'<path class="limit" d="M0 {scale.y(line.at)}H1000"/>' for line in lines)
    return svg(rules + drawn) + _labels(scale, lines) + ("" if groups else empty("not measured in this session"))


def steps(tracks: Sequence[tuple[str, list[Point]]], levels: Sequence[tuple[float, str, str]], length_ms: int) -> str:
    """Return step lines over levels (height, name, more where there is room), lowest first.

    The first track is solid, the second dashed.
    """
    scale = Scale(levels[0][0] - 0.5, levels[-1][0] + 0.5, "")
    drawn = "".join(f'<path class="grid" d="M0 {scale.y(level)}H1000"/>' for level, _, _ in levels)
    for number, (_, points) in enumerate(tracks):
        path = ""
        for at, value in points:
            x, y = _x(max(0, at), length_ms), scale.y(value)
            path += f"H{x}V{y}" if path else f"M{x} {y}"
        drawn += f'<path class="step t{number}" d="{path}H1000"/>' if path else ""
    labels = "".join(
        f'<i class="level" style="top:{scale.y(level)}%">{escape(name)}<s>{escape(more)}</s></i>'
        for level, name, more in levels
    )
    return svg(drawn) + labels


def bars(drops: list[tuple[int, int]], length_ms: int) -> str:
    """Return how many fell into each bin, as bars."""
    counts = counted(drops, length_ms, _DROP_BINS)
    most, width = max(counts, default=0) or 1, 1000 / _DROP_BINS
    path = "".join(
        f"M{n * width:.1f} 100V{100 - 100 * count / most:.0f}H{(n + 1) * width:.1f}V100Z"
        for n, count in enumerate(counts)
        if count
    )
    return svg(f'<path class="bar" d="{path}"/>')


def densest(drops: list[tuple[int, int]], length_ms: int) -> str:
    """Return how many the highest bar of `bars` stands for."""
    most = max(counted(drops, length_ms, _DROP_BINS), default=0)
    return f"the highest bar is {most:,} in {length_ms / _DROP_BINS / 1000:.2g} s"


def bands(found: Sequence[Band], length_ms: int, *, style: str) -> str:
    """Return hatched, named bands."""
    return "".join(
        f'<b class="band {style}" style="left:{percent(start, length_ms)}%;'
        f'width:{max(_MIN_WIDTH, percent(end - start, length_ms))}%"'
        f' title="{escape(what)}: {clock(start)} to {clock(end)}">{_named(what, end - start, length_ms)}</b>'
        for start, end, what in found
    )


def _named(what: str, long_ms: int, length_ms: int) -> str:
    """Return a band's name where it has room for it; the lane's own name says the same."""
    return f"<span>{escape(what)}</span>" if percent(long_ms, length_ms) > _NAME_WIDTH else ""


def axis(length_ms: int) -> str:
    """Return the time axis: at most a dozen round times."""
    step = next(
        (s for s in (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000)
         if length_ms / s <= 12),
        -(-length_ms // 12),
    )  # fmt: skip
    ticks = "".join(
        f'<i style="left:{percent(at, length_ms)}%">{clock(at)[:-4] if step >= 1000 else clock(at)}</i>'
        for at in range(0, length_ms, step)
    )
    return f'<div class="axis" aria-hidden="true">{ticks}</div>'


def svg(body: str) -> str:
    """Return an SVG that fills its place, lines as thin as ever."""
    return f'<svg viewBox="0 0 1000 100" preserveAspectRatio="none" aria-hidden="true">{body}</svg>'


def empty(text: str) -> str:
    """Return what a lane without data says."""
    return f'<em class="none">{escape(text)}</em>'


def percent(at_ms: float, length_ms: int) -> float:
    """Return a time as per cent of the session's length."""
    return round(100 * at_ms / length_ms, 3)


def _x(at_ms: float, length_ms: int) -> float:
    return round(1000 * at_ms / length_ms, 1)


def _labels(scale: Scale, lines: Sequence[Line]) -> str:
    """Return the thresholds' labels, and the scale's ends."""
    ends = f'<i class="end top">{scale.text(scale.high)}</i><i class="end bottom">{scale.text(scale.low)}</i>'
    return ends + "".join(
        f'<i class="limit" style="top:{scale.y(line.at)}%">{escape(line.label)} {scale.text(line.at)}</i>'
        for line in lines
    )
