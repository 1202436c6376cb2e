"""What happened when in a stressed session: read from the events and decisions that were recorded of it. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ops.demo.stress import Load
from ops.replay.story import Story
from ops.replay.timeline import readable_decisions
from schemas.decisions import DropVideoUntil, PolicyDecision, SetChunk, SetVideo, SoftSkip
from schemas.errors import CodecError
from schemas.events import EVENT, FrameThinned, MetricEvent, VideoDropped, VideoProcessed, metric_events
from schemas.ids import EntryId

Timed = tuple[float, PolicyDecision]
"""Seconds of session media time, and what was decided then."""


def decoded(story: Story) -> list[tuple[EntryId, MetricEvent]]:
    """Return the metric events that this build can read, with their IDs."""
    found = []
    for entry in story.metrics:
        try:
            found.append((entry.id, metric_events.decode(entry.fields.get(EVENT, b""))))
        except CodecError:
            continue
    return found


def zero_ms(events: Iterable[tuple[EntryId, MetricEvent]]) -> int | None:
    """Return when session media time was 0, by the first frame's outcome: exact to a frame's time. None without one."""
    for found, event in events:
        if isinstance(event, VideoProcessed):
            return found.ms - (event.pts_us + event.runtime_us) // 1000
    return None


def timed(story: Story, events: Iterable[tuple[EntryId, MetricEvent]]) -> list[Timed]:
    """Return the decisions by session media time."""
    zero = zero_ms(events)
    if zero is None:
        return []
    return [((found.ms - zero) / 1000, decision) for found, decision in readable_decisions(story.decisions)]


def course(load: Load, story: Story) -> dict[str, Any]:
    """Return what happened, in seconds of session media time."""
    events = decoded(story)
    decided = timed(story, events)
    rungs = [(at_s, one) for at_s, one in decided if isinstance(one, SetVideo)]
    chunks = [(at_s, one) for at_s, one in decided if isinstance(one, SetChunk)]
    floors = [at_s for at_s, one in decided if isinstance(one, DropVideoUntil)]
    back_s = next((at_s for at_s, one in rungs if one.rung == 0 and at_s > load.calm_from_s), None)
    drops = Counter(event.reason.value for _, event in events if isinstance(event, VideoDropped))
    return {
        "rungs": [
            {"at_s": round(at_s, 1), "rung": one.rung, "size": one.size, "rule": one.rule} for at_s, one in rungs
        ],
        "lowest_rung": max((one.rung for _, one in rungs), default=0),
        "last_rung": rungs[-1][1].rung if rungs else 0,
        "recovery_s": None if back_s is None else round(back_s - load.calm_from_s, 1),
        "chunks": [{"at_s": round(at_s, 1), "chunk_ms": one.chunk_ms, "rule": one.rule} for at_s, one in chunks],
        "soft_skips": _skips(decided),
        "drop_floors": {"count": len(floors), "first_s": round(floors[0], 1) if floors else None},
        "others": [{"at_s": round(at_s, 1), "rule": one.rule} for at_s, one in decided if not isinstance(one, _TOLD)],
        "drops": dict(drops) | _thinned(events),
        "decisions": dict(Counter(one.rule for _, one in decided)),
    }


_TOLD = (SetVideo, SetChunk, DropVideoUntil, SoftSkip)


def lacks(found: dict[str, Any]) -> list[str]:
    """Return what the load is there to show and did not; empty when all was seen."""
    rungs = [step["rung"] for step in found["rungs"]]
    rules = found["decisions"]
    wanted = {
        "the video ladder went down": bool(rungs) and rungs[0] == 1,
        "smaller pictures": found["lowest_rung"] >= 6,
        "the video ladder came back": found["last_rung"] < found["lowest_rung"],
        "a longer chunk": "audio.grow" in rules,
        "a shorter chunk": "audio.shrink" in rules,
        "a drop floor": bool(found["drop_floors"]["count"]),
        "late frames dropped": bool(found["drops"].get("late")),
        "superseded frames dropped": bool(found["drops"].get("superseded")),
        "a soft skip that ended": any(skip["to_s"] is not None for skip in found["soft_skips"]),
        "frames left out by a soft skip": bool(found["drops"].get("soft_skip")),
    }
    return [what for what, seen in wanted.items() if not seen]


def _skips(decided: Sequence[Timed]) -> list[dict[str, Any]]:
    skips: list[dict[str, Any]] = []
    for at_s, one in decided:
        if not isinstance(one, SoftSkip):
            continue
        if one.of:
            skips.append({"from_s": round(at_s, 1), "to_s": None, "of": one.of, "ended_by": None})
        elif skips and skips[-1]["to_s"] is None:
            skips[-1] |= {"to_s": round(at_s, 1), "ended_by": one.rule}
    return skips


def _thinned(events: Iterable[tuple[EntryId, MetricEvent]]) -> dict[str, int]:
    thinned = sum(event.frames for _, event in events if isinstance(event, FrameThinned))
    return {"thinned at the edge": thinned} if thinned else {}
