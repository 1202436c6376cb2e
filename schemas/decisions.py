"""Decisions: what policy orders. Each names the metric event that caused it and the rule that fired."""

from schemas.ids import EntryId
from schemas.message import Family, Message

PER_CAUSE = 64
"""Room for this many decisions per cause: decision ID = <cause ms>-<cause n x 64 + k>."""


class Decision(Message, frozen=True, kw_only=True):
    """An order with its cause."""

    cause: str
    """Entry ID of the metric event that ripened the rule."""
    rule: str


class DropVideoUntil(Decision, frozen=True, kw_only=True):
    """Workers drop frames below `floor_us` that they have not begun. Monotone."""

    floor_us: int


PolicyDecision = DropVideoUntil

policy_decisions: Family[PolicyDecision] = Family(PolicyDecision)


def decision_id(cause: EntryId, k: int) -> EntryId:
    """Return the ID of the `k`-th decision of `cause`: the same cause always leads to the same IDs.

    Raises ValueError when a single event would cause more decisions than there is room for.
    """
    if not 0 <= k < PER_CAUSE:
        raise ValueError(f"decision {k} of {cause}: one event causes at most {PER_CAUSE} decisions")
    return EntryId(cause.ms, cause.n * PER_CAUSE + k)
