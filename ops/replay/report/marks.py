"""Decisions as rows of marks and as a table: what was decided when, by which rule, because of what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

from ops.replay.compare import Written
from ops.replay.report.charts import percent
from ops.replay.rules import family_of, meaning_of
from ops.replay.words import clock, decision_text
from schemas.decisions import Decision, DropVideoUntil, policy_decisions
from schemas.errors import CodecError
from schemas.ids import EntryId

MOST_ROWS = 600
_CROWD = 80
"""More marks in a row than this are drawn as thin ticks: whole ones would be a bar."""
_TOGETHER_MS = 2_000
"""Drop floors that follow each other within this are one row: each late chunk moves the floor on."""

SHAPES = {
    "sound chunk": "M1 4H11V8H1Z",
    "video rung": "M0 0H4V4H8V8H12V12H0Z",
    "drop floor": "M0 2L2 0L6 4L10 0L12 2L8 6L12 10L10 12L6 8L2 12L0 10L4 6Z",
    "soft skip": "M1 1H4V11H1ZM8 1H11V11H8Z",
    "voice": "M6 0A6 6 0 1 1 5.99 0Z",
    "fact": "M6 0L12 6L6 12L0 6Z",
}
"""One shape a family of rules, so that none is told by its colour alone. 12 x 12."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One decision, or several drop floors in a row."""

    number: int
    id: EntryId
    at_ms: int
    until_ms: int
    count: int
    family: str
    rule: str
    text: str
    cause: str


def marks(written: Sequence[Written], start_ms: int) -> list[Mark]:
    """Return the decisions for people, drop floors gathered."""
    found: list[Mark] = []
    for one in written:
        at = one.id.ms - start_ms
        try:
            decision: Decision = policy_decisions.decode(one.data)
        except CodecError as error:
            found.append(Mark(len(found), one.id, at, at, 1, "fact", "?", f"unreadable: {error}", str(one.cause)))
            continue
        last = found[-1] if found else None
        if isinstance(decision, DropVideoUntil) and last and _continues(last, decision, at):
            count = last.count + 1
            text = f"{count} times, up to: {decision_text(decision)}"
            found[-1] = replace(last, until_ms=at, count=count, text=text)
            continue
        found.append(
            Mark(len(found), one.id, at, at, 1, family_of(decision), decision.rule, decision_text(decision),
                 decision.cause)
        )  # fmt: skip
    return found


def _continues(last: Mark, decision: DropVideoUntil, at_ms: int) -> bool:
    return last.family == "drop floor" and last.rule == decision.rule and at_ms - last.until_ms <= _TOGETHER_MS


def shapes() -> str:
    """Return the shapes, to be used by name."""
    symbols = "".join(
        f'<symbol id="s-{_slug(name)}" viewBox="0 0 12 12"><path d="{path}"/></symbol>' for name, path in SHAPES.items()
    )
    return f'<svg width="0" height="0" class="shapes" aria-hidden="true">{symbols}</svg>'


def shape(family: str) -> str:
    """Return one shape."""
    return f'<svg class="shape f-{_slug(family)}" aria-hidden="true"><use href="#s-{_slug(family)}"/></svg>'


def rows(sides: Sequence[tuple[str, Sequence[Mark]]], length_ms: int) -> str:
    """Return a row of marks for every family that occurs, each side under the other."""
    made = []
    for family in SHAPES:
        if not any(mark.family == family for _, found in sides for mark in found):
            continue
        for side, found in sides:
            mine = [mark for mark in found if mark.family == family]
            label = f"{family}, {side}" if len(sides) > 1 else family
            crowd = " crowd" if len(mine) > _CROWD else ""
            made.append(
                f'<div class="row{crowd}"><span class="row-name">{shape(family)}{escape(label)} '
                f"<small>{sum(mark.count for mark in mine)}</small></span>"
                + "".join(_placed(mark, side, length_ms) for mark in mine[:MOST_ROWS])
                + "</div>"
            )
    return "".join(made)


def _placed(mark: Mark, side: str, length_ms: int) -> str:
    width = percent(mark.until_ms - mark.at_ms, length_ms)
    left = f"left:{percent(mark.at_ms, length_ms)}%"
    title = escape(f"{clock(mark.at_ms)} {mark.text}")
    link = f' href="#{anchor(side, mark)}"' if mark.number < MOST_ROWS else ""  # others have no row
    return (
        (f'<span class="run-at" style="{left};width:{width}%"></span>' if width > 0 else "")
        + f'<a class="mark" tabindex="-1"{link} style="{left}" title="{title}">'
        + f"{shape(mark.family)}</a>"
    )


def table(side: str, found: Sequence[Mark], causes: Mapping[str, str]) -> str:
    """Return the table of one side's decisions; `causes` gives the text of metric events by ID."""
    if not found:
        return "<p>No decision was made: nothing needed changing.</p>"
    body = "".join(
        f'<tr id="{anchor(side, mark)}"><td class="time">{clock(mark.at_ms)}</td>'
        f"<td>{shape(mark.family)}{escape(mark.text)}</td>"
        f"<td><code>{escape(mark.rule)}</code><p>{escape(meaning_of(mark.rule, mark.family))}</p></td>"
        f"<td>{escape(causes.get(mark.cause, 'event is not recorded'))}<p><code>{escape(mark.cause)}</code></p></td>"
        "</tr>"
        for mark in found[:MOST_ROWS]
    )
    more = f"<p>{len(found) - MOST_ROWS} more are not shown.</p>" if len(found) > MOST_ROWS else ""
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Decisions"><table><thead><tr><th>time</th>'
        "<th>decision</th><th>rule</th><th>because of</th></tr></thead>"
        f"<tbody>{body}</tbody></table></div>{more}"
    )


def anchor(side: str, mark: Mark) -> str:
    """Return the ID of a decision's row on the page."""
    return f"{_slug(side)}-{mark.number}"


def _slug(name: str) -> str:
    return name.replace(" ", "-")
