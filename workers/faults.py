"""`MIRAGE_FAULT`: a deterministic way to make an engine slow, for tests and demonstrations.

    video.swap:+60ms@10s..20s,voice.convert:+90ms

| part | meaning |
|---|---|
| `video.swap` | the kind of worker and the stage that takes longer, on every input on which it runs |
| `+60ms` | by how much; `ms` or `s` |
| `*area` | video only: times (longer side of the frame / 512)², as the cost of most networks grows |
| `@10s..20s` | only on input whose media time is in this span, end excluded; without it, always |

Several are separated by commas; on the same stage they add up. Media time rules, not the clock, so a session that is
replayed is slowed in the same places.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.errors import Misconfigured
from schemas.names import Kind

STAGES: dict[str, tuple[str, ...]] = {
    Kind.VIDEO: ("decode", "detect", "track", "swap", "enhance", "paste", "encode"),
    Kind.VOICE: ("encode", "f0", "index", "convert", "post"),
}
NOMINAL_SIDE = 512  # pixels: the delay of `*area` is meant for this

_FAULT = re.compile(
    r"(?P<kind>\w+)\.(?P<stage>\w+):\+(?P<delay>\d+)(?P<unit>m?s)(?P<area>\*area)?"
    r"(@(?P<start>\d+)(?P<start_unit>m?s)\.\.(?P<end>\d+)(?P<end_unit>m?s))?"
)
_MICROSECONDS = {"ms": 1_000, "s": 1_000_000}
_ACCEPTED = "KIND.STAGE:+60ms, with *area (video only) and @10s..20s behind it where wanted; KIND.STAGE is one of " + (
    ", ".join(f"{kind}.{stage}" for kind, stages in STAGES.items() for stage in stages)
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One slowed stage."""

    kind: Kind
    stage: str
    delay_us: int
    by_area: bool = False
    from_us: int | None = None
    to_us: int | None = None

    def covers(self, stage: str, pts_us: int) -> bool:
        """Return whether `stage` is slowed on input of this media time."""
        early = self.from_us is not None and pts_us < self.from_us
        late = self.to_us is not None and pts_us >= self.to_us
        return stage == self.stage and not early and not late


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The faults of one kind of worker."""

    faults: tuple[Fault, ...] = ()

    def delay_us(self, stage: str, pts_us: int, size: int = NOMINAL_SIDE) -> int:
        """Return by how much `stage` is slowed on input of this media time; `size` is the frame's longer side, px."""
        return sum(
            fault.delay_us * size * size // NOMINAL_SIDE**2 if fault.by_area else fault.delay_us
            for fault in self.faults
            if fault.covers(stage, pts_us)
        )

    def slow(self, stages_us: Mapping[str, int], pts_us: int, size: int = NOMINAL_SIDE) -> dict[str, int]:
        """Sleep as long as the stages that ran are slowed, and return their figures with that added.

        Called on the engine thread: it is held up as by real work.
        """
        delays_us = {stage: self.delay_us(stage, pts_us, size) for stage in stages_us} if self.faults else {}
        if any(delays_us.values()):
            time.sleep(sum(delays_us.values()) / 1e6)
        return {stage: figure_us + delays_us.get(stage, 0) for stage, figure_us in stages_us.items()}


NO_FAULTS = FaultPlan()


def fault_plan(text: str, kind: Kind) -> FaultPlan:
    """Return what `text` says of `kind`; empty text is no fault.

    Raises `Misconfigured`, also for what it says wrongly of another kind.
    """
    faults = [_parsed(part.strip()) for part in text.split(",")] if text.strip() else []
    return FaultPlan(tuple(fault for fault in faults if fault.kind is kind))


def _parsed(text: str) -> Fault:
    found = _FAULT.fullmatch(text)
    if found is None or found["stage"] not in STAGES.get(found["kind"], ()):
        raise Misconfigured(f"{text!r} is no fault; expected {_ACCEPTED}")
    kind = Kind(found["kind"])
    if found["area"] and kind is not Kind.VIDEO:
        raise Misconfigured(f"{text!r}: *area is for video; expected {_ACCEPTED}")
    start = end = None
    if found["start"]:
        start = int(found["start"]) * _MICROSECONDS[found["start_unit"]]
        end = int(found["end"]) * _MICROSECONDS[found["end_unit"]]
        if start >= end:
            raise Misconfigured(f"{text!r}: the span must end after it begins; expected {_ACCEPTED}")
    delay_us = int(found["delay"]) * _MICROSECONDS[found["unit"]]
    return Fault(kind, found["stage"], delay_us, bool(found["area"]), start, end)
