"""The same session under other thresholds, and both lists of decisions side by side."""

from typing import Any

import msgspec

from ops.replay.compare import Written
from ops.replay.fold import fold
from ops.replay.report.marks import Mark, marks
from ops.replay.report.page import WhatIf
from ops.replay.story import Story
from ops.replay.words import clock
from schemas.policy_config import PolicyConfig


def what_if(story: Story, config: PolicyConfig) -> WhatIf:
    """Fold the session's metrics under `config`. Open loop: the media effects are those of the recording."""
    recorded = msgspec.structs.asdict(story.opening.config)
    changed = {
        name: (recorded[name], value)
        for name, value in msgspec.structs.asdict(config).items()
        if value != recorded[name]
    }
    return WhatIf(config, changed, fold(story.metrics, config=config).decisions)


def side_by_side(story: Story, other: WhatIf) -> list[tuple[str, str, str]]:
    """Return (time, recorded, what-if) rows in order; the same decision on both sides shares a row."""
    start_ms = story.metrics[0].id.ms if story.metrics else 0
    left, right = marks(story.decisions, start_ms), marks(other.decisions, start_ms)
    rows: dict[tuple[int, int, str], list[str]] = {}
    for side, found in enumerate((left, right)):
        for mark in found:
            rows.setdefault((mark.id.ms, mark.id.n, mark.family), ["", ""])[side] = _cell(mark)
    return [(clock(ms - start_ms), recorded, instead) for (ms, _, _), (recorded, instead) in sorted(rows.items())]


def _cell(mark: Mark) -> str:
    return f"{mark.rule}: {mark.text}"


def as_json(written: list[Written], start_ms: int) -> list[dict[str, Any]]:
    """Return a list of decisions for machines."""
    return [
        {"id": str(mark.id), "at_ms": mark.at_ms, "rule": mark.rule, "decision": mark.text, "count": mark.count}
        for mark in marks(written, start_ms)
    ]
