"""Two streams of decisions, compared byte for byte: the recorded one, and the one that folding leads to.

| first difference | what it means |
|---|---|
| `changed` | both decided under this ID, but not the same bytes |
| `missing` | folding decides this, the recording does not have it |
| `extra` | the recording has this, folding does not decide it |

The tail of a session that goes on (or of an archive that was cut off) is no difference: decisions after the last
recorded one are *pending*, since the service may not have written them yet; recorded decisions whose cause is not
among the metrics yet are *ahead*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from schemas.decisions import PER_CAUSE
from schemas.ids import ZERO, EntryId


class Written(NamedTuple):
    """A decision as it stands on its stream: ID and canonical bytes."""

    id: EntryId
    data: bytes

    @property
    def cause(self) -> EntryId:
        """ID of the metric event that its own ID derives from."""
        return EntryId(self.id.ms, self.id.n // PER_CAUSE)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where the two streams part."""

    kind: Literal["changed", "missing", "extra"]
    expected: Written | None
    """What folding decides."""
    got: Written | None
    """What was recorded."""

    @property
    def cause(self) -> EntryId:
        """The metric event at which they part."""
        first = self.expected or self.got
        return first.cause if first else ZERO


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing found."""

    same: int
    """Decisions that are the same, before the first difference."""
    difference: Difference | None = None
    pending: int = 0
    ahead: int = 0


def compare(
    folded: Sequence[Written], recorded: Sequence[Written], *, complete: bool, last_metric: EntryId
) -> Comparison:
    """Compare the decisions of folding with the recorded ones, both oldest first.

    `complete`: the metrics hold the session's end, so nothing is pending or ahead.
    """
    pending = ahead = 0
    if not complete:
        kept = [written for written in recorded if written.cause <= last_metric]
        ahead, recorded = len(recorded) - len(kept), kept
        last = recorded[-1].id if recorded else ZERO
        settled = [written for written in folded if written.id <= last]
        pending, folded = len(folded) - len(settled), settled
    for same, (expected, got) in enumerate(zip(folded, recorded, strict=False)):
        if expected != got:
            return Comparison(same, _difference(expected, got), pending, ahead)
    same = min(len(folded), len(recorded))
    difference = None
    if len(folded) > same:
        difference = Difference("missing", folded[same], None)
    elif len(recorded) > same:
        difference = Difference("extra", None, recorded[same])
    return Comparison(same, difference, pending, ahead)


def _difference(expected: Written, got: Written) -> Difference:
    if expected.id == got.id:
        return Difference("changed", expected, got)
    if expected.id < got.id:
        return Difference("missing", expected, None)
    return Difference("extra", None, got)
