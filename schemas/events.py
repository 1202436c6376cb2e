"""Metric events: what happened to a session, in the server's order. Policy is a fold over exactly these."""

from enum import StrEnum

from schemas.message import Count, Family, Message
from schemas.policy_config import RULES_VERSION, PolicyConfig


class DropReason(StrEnum):
    """Why an input never became an output."""

    LATE = "late"  # below the policy's drop floor
    STALE = "stale"  # older than its deadline
    SUPERSEDED = "superseded"  # a newer frame was there
    SOFT_SKIP = "soft_skip"
    INVALID = "invalid"  # passed the edge's guards, but would not decode
    ENGINE = "engine"  # the engine failed on it
    ENDED = "ended"  # the session was over before its turn came


class SessionStarted(Message, frozen=True, kw_only=True):
    """The first event: everything that a replay of the decisions needs."""

    config: PolicyConfig = PolicyConfig()
    rules_version: int = RULES_VERSION
    chunk_ms: Count = 192
    at_us: Count = 0


class Outcome(Message, frozen=True, kw_only=True):
    """What became of one input ID. Every accepted ID has exactly one outcome."""

    id: str
    """Entry ID of the input."""
    pts_us: int
    epoch: Count
    """Epoch of the worker that says so; below the last `WorkerTook` of its kind it does not count."""


class VideoProcessed(Outcome, frozen=True, kw_only=True):
    """A frame was published, swapped or covered."""

    runtime_us: Count
    """From when the worker could have started (frame there, the session's previous frame done) to publication."""
    stages_us: dict[str, int]
    """Microseconds in `decode`, `detect`, `track`, `swap`, `enhance`, `paste`, `encode`."""
    faces: Count
    detector_ran: bool
    confidence_pm: Count
    outcome: str
    """`swapped`, `covered` or `passed`."""


class VideoDropped(Outcome, frozen=True, kw_only=True):
    """A frame was not published."""

    reason: DropReason


class AudioProcessed(Outcome, frozen=True, kw_only=True):
    """A chunk was published."""

    duration_us: Count
    runtime_us: Count
    stages_us: dict[str, int]
    """Microseconds in `encode`, `f0`, `convert`, `post`."""
    outcome: str
    """`converted`, `gated` or `silenced`."""


class AudioSkipped(Outcome, frozen=True, kw_only=True):
    """A chunk was not published."""

    reason: DropReason


class WorkerTook(Message, frozen=True, kw_only=True):
    """A worker owns this session's work of `kind` from here on; outcomes of older epochs do not count."""

    kind: str
    worker: str
    epoch: Count


class FrameRejected(Message, frozen=True, kw_only=True):
    """Ingress refused an input; it never got an ID."""

    producer: str
    seq: Count
    media: str
    """`video` or `audio`."""
    reason: str


class RateLimited(Message, frozen=True, kw_only=True):
    """A client went over a rate limit."""

    producer: str
    seq: Count
    scope: str


class Playback(Message, frozen=True, kw_only=True):
    """What the publisher's own player reports."""

    producer: str
    seq: Count
    audio_us: int
    video_us: int
    buffered_us: Count
    underruns: Count
    e2e_us: Count


class ConsentRevoked(Message, frozen=True, kw_only=True):
    """The identity may not be worn any more; the session that wears it ends."""

    identity: str


class SessionEnded(Message, frozen=True, kw_only=True):
    """The session is over; whoever works on it publishes nothing more. Outcomes of what was in flight may follow."""

    reason: str


MetricEvent = (
    SessionStarted
    | VideoProcessed
    | VideoDropped
    | AudioProcessed
    | AudioSkipped
    | WorkerTook
    | FrameRejected
    | RateLimited
    | Playback
    | ConsentRevoked
    | SessionEnded
)

metric_events: Family[MetricEvent] = Family(MetricEvent)

EVENT = b"e"
"""The field that holds the message, on every event-plane stream."""
