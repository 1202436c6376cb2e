"""Decisions: what policy orders. Each names the metric event that caused it and the rule that fired."""

from schemas.ids import EntryId
from schemas.message import Count, Family, Message

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


class SoftSkip(Decision, frozen=True, kw_only=True):
    """Workers drop one frame of every `of` that they would have begun; 0: none any more."""

    of: Count


class SetChunk(Decision, frozen=True, kw_only=True):
    """Ingress cuts sound into chunks of this length from the next one on."""

    chunk_ms: Count


class SetVideo(Decision, frozen=True, kw_only=True):
    """The video rung in force; ingress stamps it on every frame and tells the client."""

    rung: Count
    quality: Count
    fps: Count
    size: Count


class VoiceFailed(Decision, frozen=True, kw_only=True):
    """The voice goes silent (or through, where the session allows that): conversion is too slow for real time."""

    retry_ms: Count
    """When it is tried again, after this decision."""


class VoiceRestored(Decision, frozen=True, kw_only=True):
    """The voice is converted again, on trial."""


class LatencyTargetMissed(Decision, frozen=True, kw_only=True):
    """A fact for operators: the publisher hears and sees itself later than the specification's 250 ms."""

    e2e_us: Count
    chunk_ms: Count


class VideoOverloaded(Decision, frozen=True, kw_only=True):
    """A fact for operators and autoscaling: over budget on the bottom rung."""

    ratio_pm: Count


class Abandon(Decision, frozen=True, kw_only=True):
    """The session ends, for good."""

    reason: str


PolicyDecision = (
    DropVideoUntil
    | SoftSkip
    | SetChunk
    | SetVideo
    | VoiceFailed
    | VoiceRestored
    | LatencyTargetMissed
    | VideoOverloaded
    | Abandon
)

policy_decisions: Family[PolicyDecision] = Family(PolicyDecision)


def decision_id(cause: EntryId, k: int) -> EntryId:
    """Return the ID of the `k`-th decision of `cause`: the same cause always leads to the same IDs.

    Raises ValueError when a single event would cause more decisions than there is room for.
    """
    if not 0 <= k < PER_CAUSE:
        raise ValueError(f"decision {k} of {cause}: one event causes at most {PER_CAUSE} decisions")
    return EntryId(cause.ms, cause.n * PER_CAUSE + k)
