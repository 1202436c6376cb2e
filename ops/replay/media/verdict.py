"""What comparing a session's outputs with those of a replay says. Pure."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from ops.replay.media.likeness import LSD_DB, PSNR_DB, jpeg_psnr_db, pcm_lsd_db
from ops.replay.media.plan import AUDIO, VIDEO, Made, Medium, Step
from schemas.events import AudioProcessed, Outcome, VideoProcessed
from schemas.ids import EntryId
from schemas.message import as_json
from workers.media_task import Converted


@dataclass(frozen=True, slots=True)
class Measure:
    """How one medium's outputs are compared where their bytes differ."""

    name: str
    between: Callable[[bytes, bytes], float]
    bound: float
    equal: float
    """The figure of equal outputs."""
    worst_name: str
    worst: Callable[[list[float]], float]

    def far(self, figure: float) -> bool:
        """Return whether outputs with this figure are different."""
        return figure < self.bound if self.equal > self.bound else figure > self.bound


MEASURES = {
    VIDEO.name: Measure("psnr_db", jpeg_psnr_db, PSNR_DB, math.inf, "min", min),
    AUDIO.name: Measure("lsd_db", pcm_lsd_db, LSD_DB, 0.0, "max", max),
}


@dataclass(frozen=True, slots=True)
class Divergence:
    """One input whose output came out differently."""

    medium: str
    id: EntryId
    pts_us: int
    """Media time of the input."""
    kind: str
    """`failed`, `header`, `outcome` or `data`."""
    detail: str
    figure: float | None = None
    bound: float | None = None
    """What the figure was held against; None where only equal bytes would do."""

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        figure = None if self.figure is None or math.isinf(self.figure) else round(self.figure, 3)
        return {
            "medium": self.medium,
            "id": str(self.id),
            "pts_us": self.pts_us,
            "kind": self.kind,
            MEASURES[self.medium].name: figure,
            "bound": self.bound,
            "detail": self.detail,
        }


@dataclass(slots=True)
class Tally:
    """One medium's comparison so far. `exact`: only equal bytes are the same."""

    medium: Medium
    exact: bool
    engine: str
    fed: int = 0
    compared: int = 0
    equal: int = 0
    dropped: int = 0
    owners: int = 0
    changes: int = 0
    lacking: list[EntryId] = field(default_factory=list)
    """Converted inputs that the recording lacks: state after the first of them is not that of the session."""
    unsaid: int = 0
    """Outputs that do not say what they wear."""
    figures: list[float] = field(default_factory=list)
    different: int = 0
    first: Divergence | None = None

    def failed(self, step: Step, pts_us: int, detail: str) -> None:
        """Take notice of an input that was converted then, and is not now."""
        self.compared += 1
        self._note(Divergence(self.medium.name, step.id, pts_us, "failed", detail))

    def compare(self, step: Step, pts_us: int, made: Made, now: Converted, outcome: Outcome) -> None:
        """Compare a recorded output with what the same input became now."""
        self.compared += 1
        figure = self._measure.equal
        if made.entry.data == now.data:
            self.equal += 1
        else:
            figure = self._measure.between(made.entry.data, now.data)
        self.figures.append(figure)
        divergence = self._divergence(step, pts_us, made, now, outcome, figure)
        if divergence is not None:
            self._note(divergence)

    def _note(self, divergence: Divergence) -> None:
        self.different += 1
        self.first = self.first or divergence

    def _divergence(
        self, step: Step, pts_us: int, made: Made, now: Converted, outcome: Outcome, figure: float
    ) -> Divergence | None:
        kind, detail = "", ""
        then_header, now_header = replace(made.entry.header, sent_us=0), replace(now.header, sent_us=0)
        if then_header.worn is None:  # an older build did not say
            now_header = replace(now_header, worn=None)
        if then_header != now_header:
            was, is_ = as_json(then_header), as_json(now_header)
            kind = "header"
            detail = ", ".join(f"{key} was {was[key]}, is {is_[key]}" for key in was if was[key] != is_[key])
        elif made.outcome is not None and _named(made.outcome) != _named(outcome):
            kind, detail = "outcome", f"was {_named(made.outcome)}, is {_named(outcome)}"
        elif made.entry.data != now.data and (self.exact or self._measure.far(figure)):
            kind, detail = "data", f"{len(made.entry.data)} bytes were recorded, {len(now.data)} came out"
        if not kind:
            return None
        bound = None if self.exact else self._measure.bound
        return Divergence(self.medium.name, step.id, pts_us, kind, detail, figure, bound)

    @property
    def _measure(self) -> Measure:
        return MEASURES[self.medium.name]

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints; a figure of None means that every pair is equal, or that there is none."""
        return {
            "engine": self.engine,
            "exact": self.exact,
            "fed": self.fed,
            "compared": self.compared,
            "equal": self.equal,
            "different": self.different,
            "dropped": self.dropped,
            "owners": self.owners,
            "changes": self.changes,
            **self._summary(),
        }

    def _summary(self) -> dict[str, Any]:
        measure = self._measure
        worst, median = f"{measure.name}_{measure.worst_name}", f"{measure.name}_median"
        if not self.figures:
            return {worst: None, median: None}
        return {worst: _finite(measure.worst(self.figures)), median: _finite(statistics.median(self.figures))}


def _finite(figure: float) -> float | None:
    return None if math.isinf(figure) else round(figure, 3)


def _named(outcome: Outcome) -> str:
    if isinstance(outcome, VideoProcessed):
        return f"{outcome.outcome} ({outcome.faces} faces)"
    return outcome.outcome if isinstance(outcome, AudioProcessed) else type(outcome).__name__


@dataclass(frozen=True, slots=True)
class MediaVerdict:
    """The result of a media replay."""

    sid: str
    tallies: list[Tally]
    problems: list[str]
    took_s: float
    recorded_s: float

    @property
    def first_difference(self) -> Divergence | None:
        """The first input, in the order of IDs, that came out differently."""
        found = [tally.first for tally in self.tallies if tally.first is not None]
        return min(found, key=lambda divergence: divergence.id, default=None)

    @property
    def exit_code(self) -> int:
        """0 same, 3 different, 1 damaged: what is missing may be the reason for any difference."""
        if self.problems:
            return 1
        return 0 if self.first_difference is None else 3

    def as_json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        first = self.first_difference
        return {
            "sid": self.sid,
            **{tally.medium.name: tally.as_json() for tally in self.tallies},
            "first_difference": None if first is None else first.as_json(),
            "problems": self.problems,
            "took_s": round(self.took_s, 3),
            "recorded_s": round(self.recorded_s, 3),
        }
