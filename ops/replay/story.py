"""A session's events, read once into memory: what replays fold and reports tell. Media stays where it is."""

from dataclasses import dataclass, field
from functools import cached_property

from ops.archive.model import RecordedSession
from ops.replay.compare import Written
from schemas.bus.base import Entry
from schemas.errors import CodecError
from schemas.events import EVENT, MetricEvent, SessionEnded, SessionStarted, metric_events
from schemas.policy_config import PolicyConfig


@dataclass(frozen=True, slots=True)
class Opening:
    """How a session's metrics begin, and whether they end."""

    started: SessionStarted | None
    complete: bool
    """They hold the session's end."""

    @property
    def config(self) -> PolicyConfig:
        """The thresholds that the session ran under."""
        return self.started.config if self.started else PolicyConfig()


@dataclass(frozen=True)
class Story:
    """Everything of a session but its media. An hour at 20 fps is about 40 MB."""

    sid: str
    metrics: list[Entry]
    decisions: list[Written]
    control: list[Entry]
    problems: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, session: RecordedSession) -> "Story":
        """Read a session's metrics, decisions and facts."""
        decisions = [Written(entry.id, entry.fields.get(EVENT, b"")) for entry in session.entries("policy")]
        return cls(
            session.sid,
            list(session.entries("metrics")),
            decisions,
            list(session.entries("control")),
            [str(problem) for problem in session.problems],
        )

    @cached_property
    def opening(self) -> Opening:
        """How the metrics begin and whether they end."""
        started = _event(self.metrics[0]) if self.metrics else None
        # Few events need a look: to decode all of them would cost as much as to fold them.
        ends = (entry for entry in reversed(self.metrics) if b"session_ended" in entry.fields.get(EVENT, b""))
        complete = any(isinstance(_event(entry), SessionEnded) for entry in ends)
        return Opening(started if isinstance(started, SessionStarted) else None, complete)


def _event(entry: Entry) -> MetricEvent | None:
    try:
        return metric_events.decode(entry.fields.get(EVENT, b""))
    except CodecError:
        return None
