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

    rung: Count = 0
    """Video rung that ingress stamped on it."""
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

    rung: Count = 0
    reason: DropReason


class AudioProcessed(Outcome, frozen=True, kw_only=True):
    """A chunk was published."""

    duration_us: Count
    runtime_us: Count
    stages_us: dict[str, int]
    """Microseconds in `encode`, `f0`, `convert`, `post`, and `index` where features are looked up."""
    outcome: str
    """`converted` or `gated`; `silenced` without a voice or after a failure; `passed` where that was allowed."""


class AudioSkipped(Outcome, frozen=True, kw_only=True):
    """A chunk was not published."""

    reason: DropReason


class WorkerTook(Message, frozen=True, kw_only=True):
    """A worker owns this session's work of `kind` from here on; outcomes of older epochs do not count."""

    kind: str
    worker: str
    epoch: Count


class Report(Message, frozen=True, kw_only=True):
    """What one producer says beside outcomes. A report at or below the producer's last one does not count."""

    producer: str
    """Who says so, unique among all processes and connections, ever."""
    seq: Count
    """Rises by one with each report of this producer, whatever its type."""


class FrameRejected(Report, frozen=True, kw_only=True):
    """Ingress refused an input; it never got an ID."""

    media: str
    """`video` or `audio`."""
    reason: str


class FrameThinned(Report, frozen=True, kw_only=True):
    """Ingress left out valid frames of a client that sends more than the frame rate in force; they never got an ID."""

    frames: Count
    """How many since this producer's last report of it, at most a second ago."""


class RateLimited(Report, frozen=True, kw_only=True):
    """A client went over a rate limit."""

    scope: str


class TokenExpired(Report, frozen=True, kw_only=True):
    """The publisher's token ran out without a fresh one, and its connection was closed."""


class Playback(Report, frozen=True, kw_only=True):
    """What the publisher's own player reports."""

    audio_us: int
    video_us: int
    buffered_us: Count
    underruns: Count
    e2e_us: Count


class Backlog(Report, frozen=True, kw_only=True):
    """What waits, about once a second. Each producer says what it knows: workers their input, ingress its output."""

    audio: int | None = None
    """Chunks that wait for the voice worker."""
    video: int | None = None
    """Frames that wait for the video worker."""
    outbound: int | None = None
    """Messages that wait for the slowest client of the session at this ingress."""


class Detections(Report, frozen=True, kw_only=True):
    """How often the detector ran over the last frames, about every five seconds. Intervals are in frames."""

    frames: Count
    runs: Count
    early: Count
    """Runs that a low confidence brought forward."""
    shortest: Count
    """0 while the detector has not run twice."""
    longest: Count


class Acceptance(Report, frozen=True, kw_only=True):
    """How many of the last converted chunks met the specification's bound, about every five seconds."""

    chunks: Count
    accepted: Count
    """With runtime below 0.65 of their duration."""


class Gpu(Report, frozen=True, kw_only=True):
    """Memory of the worker's GPU in bytes, as its driver tells; all None where the engine computes on the CPU.

    What an engine's allocator has handed out of what it holds, and its largest free block, nobody tells. Recordings of
    older builds have fields for that, `allocated`, `reserved` and `largest_free`, which were never filled.
    """

    kind: str
    """Kind of the worker: `video` or `voice`."""
    held: int | None = None
    """By the worker's process; None where the driver does not say, as in some containers."""
    grown: int | None = None
    """Change of `held` since the engine was warm. Shapes are settled by then: what grows, fragments or leaks."""
    used: int | None = None
    """By all processes on that GPU."""
    total: int | None = None


class ArchiveStatus(Report, frozen=True, kw_only=True):
    """How the recording of the session stands, on every change."""

    state: str
    """`on`; `behind` (entries were trimmed before they were read); `degraded` (nothing is written); `complete`."""
    missed: Count = 0
    """Entries that are not in the archive, so far."""
    detail: str = ""


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
    | FrameThinned
    | RateLimited
    | TokenExpired
    | Playback
    | Backlog
    | Detections
    | Acceptance
    | Gpu
    | ArchiveStatus
    | ConsentRevoked
    | SessionEnded
)

metric_events: Family[MetricEvent] = Family(MetricEvent)

EVENT = b"e"
"""The field that holds the message, on every event-plane stream."""
