"""Puts the report together: one HTML page that asks nobody for anything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from ops.replay.compare import Written
from ops.replay.report import marks as marked
from ops.replay.report.figures import tiles
from ops.replay.report.lanes import cursor_values, timeline_lanes
from ops.replay.report.sheet import Pair, source
from ops.replay.story import Story
from ops.replay.timeline import SessionTimeline, lanes
from ops.replay.verdict import Verdict
from ops.replay.words import clock, event_text, name_of
from schemas.errors import CodecError
from schemas.events import EVENT, metric_events
from schemas.policy_config import PolicyConfig

OPEN_LOOP = (
    "What-if folds the events that were recorded, under other thresholds. The media did not run again: had these"
    " decisions been in force, frames and sound would have taken other times, and later decisions could differ."
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """Other thresholds, and where they lead."""

    config: PolicyConfig
    changed: dict[str, tuple[int, int]]
    """Threshold → (recorded, instead)."""
    decisions: list[Written]


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """All that the page tells."""

    story: Story
    verdict: Verdict
    timeline: SessionTimeline
    what_if: WhatIf | None = None
    pictures: Sequence[Pair] = field(default_factory=tuple)
    media_unread: bool = False


def render(report: ReplayReport) -> str:
    """Return the page."""
    style, script = (files(__package__).joinpath(name).read_text("utf-8") for name in ("report.css", "report.js"))
    line, story = report.timeline, report.story
    sides = [("recorded", story.decisions)]
    if report.what_if is not None:
        sides.append(("what-if", report.what_if.decisions))
    found = [(side, marked.marks(written, line.start_ms)) for side, written in sides]
    tracks = [(side, lanes(written, line)) for side, written in sides]
    values = cursor_values(line, tracks, sorted({mark.at_ms for _, side in found for mark in side}))
    numbers = json.dumps(values, separators=(",", ":"))  # and our own words: nothing that could end the element
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Mirage replay of {escape(story.sid)}</title><style>{style}</style></head><body>"
        f'<a class="skip" href="#timeline">To the timeline</a>{marked.shapes()}<main>'
        + _head(report)
        + tiles(report.verdict, line, tracks[0][1])
        + _what_if(report)
        + _timeline(report, timeline_lanes(line, tracks, story.opening.config), marked.rows(found, line.length_ms))
        + _sheet(report.pictures)
        + _tables(found, causes(story, [one for _, written in sides for one in written]))
        + _problems(report.verdict, media_unread=report.media_unread)
        + _footer(report.verdict)
        + f'</main><script type="application/json" id="values">{numbers}</script><script>{script}</script>'
        "</body></html>"
    )


def causes(story: Story, decisions: Sequence[Written]) -> dict[str, str]:
    """Return the text of every metric event that caused a decision, by its ID. Others are not decoded."""
    wanted = {written.cause for written in decisions}
    told = {}
    for entry in story.metrics:
        if entry.id in wanted:
            try:
                event = metric_events.decode(entry.fields.get(EVENT, b""))
            except CodecError:
                continue
            told[str(entry.id)] = f"{name_of(event).replace('_', ' ')}: {event_text(event)}"
    return told


def _head(report: ReplayReport) -> str:
    verdict = report.verdict
    if verdict.damaged:
        state, text = "bad", "Damaged or incomplete: see the problems below. What could be read is shown."
    elif verdict.first_difference is not None:
        state, text = "bad", f"Different: {verdict.first_difference['meaning']}."
    elif verdict.decisions:
        many = "the one decision" if verdict.decisions == 1 else f"all {verdict.decisions} decisions"
        state, text = "good", f"The same: {many} came out again, byte for byte."
    else:
        state, text = "good", "The same: no decision was recorded, and none came out."
    sign = "✓" if state == "good" else "✕"
    return (
        '<header class="head"><h1>Mirage <span>replay</span></h1>'
        f'<p class="sid"><code>{escape(report.story.sid)}</code> · {clock(report.timeline.length_ms)[:-4]}'
        f' · {verdict.events} events</p><p class="verdict {state}">'
        f"<b>{sign}</b> {escape(text)}</p>{_difference(report)}</header>"
    )


def _difference(report: ReplayReport) -> str:
    told = report.verdict.first_difference
    if told is None:
        return ""

    def side(name: str) -> str:
        one = told[name]
        if one is None:
            return "nothing"
        return f"<code>{escape(one['id'])}</code> {escape(one.get('text') or one['unreadable'])}"

    changed = "".join(
        f"<li><code>{escape(name)}</code>: {escape(str(pair[0]))} → {escape(str(pair[1]))}</li>"
        for name, pair in told["changed"].items()
    )
    cause = told["cause"]
    return (
        f'<dl class="difference"><dt>folding leads to</dt><dd>{side("expected")}</dd><dt>recorded</dt><dd>{side("got")}'
        f"</dd><dt>because of</dt><dd><code>{escape(cause['id'])}</code>"
        f" {escape(cause.get('text') or cause['unreadable'])}</dd>"
        f"<dt>policy state there</dt><dd><ul>{changed or '<li>unchanged</li>'}</ul></dd></dl>"
    )


def _what_if(report: ReplayReport) -> str:
    if report.what_if is None:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{was}</td><td><b>{now}</b></td></tr>"
        for name, (was, now) in report.what_if.changed.items()
    )
    return (
        f'<section class="card"><h2>Other thresholds</h2><p class="note"><b>Open loop.</b> {OPEN_LOOP}</p>'
        f'<div class="wide"><table class="slim"><thead><tr><th>threshold</th><th>recorded</th><th>what-if</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div><p>Decisions recorded: {len(report.story.decisions)};"
        f" under these thresholds: {len(report.what_if.decisions)}.</p></section>"
    )


def _timeline(report: ReplayReport, drawn: str, rows: str) -> str:
    two = report.what_if is not None
    legend = '<p class="legend"><b class="solid"></b> recorded <b class="dashed"></b> what-if</p>' if two else ""
    return (
        '<section class="card" id="timeline"><div class="bar"><h2>Timeline</h2>'
        '<label>Zoom <input type="range" id="zoom" min="1" max="24" step="0.5" value="1"></label></div>'
        '<p class="hint">Point at it, or focus it and use the arrow keys: <kbd>←</kbd> <kbd>→</kbd> move,'
        " <kbd>Page Up</kbd> <kbd>Page Down</kbd> go to the previous and next decision, <kbd>+</kbd> <kbd>-</kbd> zoom."
        f'</p>{legend}<p id="readout" role="status">&nbsp;</p>'
        '<div class="scroll" tabindex="0" role="application" aria-label="Timeline; arrow keys move the cursor">'
        f'<div class="inner"><div class="cursor" hidden></div>{drawn}'
        f'<section class="lane" aria-label="Decisions"><header><h3>Decisions</h3>'
        f"<p>each mark leads to its row below</p></header>"
        f"{rows or '<p>none</p>'}</section></div></div></section>"
    )


def _sheet(pictures: Sequence[Pair]) -> str:
    if not pictures:
        return (
            '<section class="card"><h2>Before and after</h2><p>No pictures: video was not recorded, or the report was'
            " asked to leave it out.</p></section>"
        )
    shown = "".join(
        f'<figure><div><img alt="before, at {clock(pair.at_ms)}" src="{source(pair.before)}">'
        f'<img alt="after, at {clock(pair.at_ms)}" src="{source(pair.after)}"></div>'
        f"<figcaption>{clock(pair.at_ms)} · rung {pair.rung}</figcaption></figure>"
        for pair in pictures
    )
    return (
        '<section class="card"><h2>Before and after</h2><p class="note">The left picture of each pair shows the'
        " performer's own face: keep this page as closely as the recording itself.</p>"
        f'<div class="sheet">{shown}</div></section>'
    )


def _tables(found: Sequence[tuple[str, Sequence[marked.Mark]]], told: dict[str, str]) -> str:
    made = ""
    for side, mine in found:
        made += f'<section class="card"><h2>Decisions, {side}</h2>{marked.table(side, mine, told)}</section>'
    return made


def _problems(verdict: Verdict, *, media_unread: bool) -> str:
    listed = "".join(f"<li>{escape(problem)}</li>" for problem in verdict.problems)
    notes = []
    if not verdict.complete:
        notes.append(
            f"The session's end is not among the events: {verdict.pending} decisions after the last recorded one are"
            f" pending, {verdict.ahead} recorded ones are ahead of the events; neither was compared."
        )
    if media_unread:
        notes.append(
            "Recorded pictures and sound were not checked, as decisions do not need them; mirage export reads all."
        )
    said = "".join(f"<p>{escape(note)}</p>" for note in notes)
    return (
        f'<section class="card"><h2>Problems</h2>{f"<ul>{listed}</ul>" if listed else "<p>None was found.</p>"}{said}'
        "</section>"
    )


def _footer(verdict: Verdict) -> str:
    return f"<footer>Rules version {verdict.rules_version}. Folded by the same code that decided live.</footer>"
