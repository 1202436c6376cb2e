"""What a session went through, as series over its time: collected while its metrics are folded.

Times are milliseconds since the session's first event, from the IDs of the metric entries: the order and the clock that
the rules saw.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

from ops.replay.compare import Written
from policy.reducer import PolicyState
from schemas.decisions import (
    PolicyDecision,
    SetChunk,
    SetVideo,
    SoftSkip,
    VoiceFailed,
    VoiceRestored,
    policy_decisions,
)
from schemas.errors import CodecError
from schemas.events import (
    AudioProcessed,
    AudioSkipped,
    FrameRejected,
    FrameThinned,
    MetricEvent,
    Playback,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import EntryId
from schemas.policy_config import VIDEO_LADDER

Point = tuple[int, float]
"""(ms since the start, value)."""
Band = tuple[int, int, str]
"""(from ms, to ms, what)."""


@dataclass(slots=True)
class Lanes:
    """What a stream of decisions did over time."""

    rung: list[Point] = field(default_factory=list)
    chunk: list[Point] = field(default_factory=list)
    voice: list[Band] = field(default_factory=list)
    """While the voice was not converted."""
    skip: list[Band] = field(default_factory=list)


@dataclass(slots=True)
class SessionTimeline:
    """Every series of a session. Ratios are shares of the time that there is: 1.0 is all of it."""

    start_ms: int = 0
    end_ms: int = 0
    chunk_ms: int = 0
    late_ms: list[Point] = field(default_factory=list)
    audio_ratio: list[Point] = field(default_factory=list)
    video_ratio: list[Point] = field(default_factory=list)
    """Runtime over the frame interval of the rung in force."""
    e2e_ms: list[Point] = field(default_factory=list)
    drops: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Reason → (when, how many)."""
    took: list[tuple[int, str, str]] = field(default_factory=list)
    """(when, kind of worker, its name)."""
    outcomes: Counter[str] = field(default_factory=Counter)
    state: PolicyState | None = None
    """What all events led to; None where none was folded."""

    @property
    def length_ms(self) -> int:
        """From the first event to the last."""
        return max(1, self.end_ms - self.start_ms)


class Collector:
    """Builds a `SessionTimeline`; its `see` is an observer of `fold`."""

    def __init__(self, recorded: Iterable[Written]) -> None:
        """Take the recorded decisions: they say which rung was in force."""
        self.timeline = SessionTimeline()
        decided = readable_decisions(recorded)
        self._rungs = [(found, decision) for found, decision in decided if isinstance(decision, SetVideo)]
        self._interval_us = 1_000_000 // VIDEO_LADDER[0].fps
        self._next = 0

    def see(self, entry_id: EntryId, event: MetricEvent, state: PolicyState | None) -> None:
        """Take one event, and the state that folding it led to."""
        line = self.timeline
        if not line.start_ms:
            line.start_ms = entry_id.ms
        line.end_ms = max(line.end_ms, entry_id.ms)
        at = entry_id.ms - line.start_ms
        line.state = state
        if state is not None and isinstance(event, AudioProcessed | AudioSkipped):
            late_us = state.sync.late_us
            if late_us is not None:
                line.late_ms.append((at, late_us / 1000))
        if isinstance(event, VideoProcessed | AudioProcessed):
            self._processed(at, entry_id, event)
        elif isinstance(event, VideoDropped | AudioSkipped | FrameThinned | FrameRejected):
            self._left_out(at, event)
        elif isinstance(event, WorkerTook):
            line.took.append((at, event.kind, event.worker))
        elif isinstance(event, Playback):
            line.e2e_ms.append((at, event.e2e_us / 1000))
        elif isinstance(event, SessionStarted):
            line.chunk_ms = event.chunk_ms

    def _processed(self, at: int, entry_id: EntryId, event: VideoProcessed | AudioProcessed) -> None:
        line = self.timeline
        if isinstance(event, VideoProcessed):
            self._advance(entry_id)
            line.video_ratio.append((at, event.runtime_us / self._interval_us))
            line.outcomes[f"video {event.outcome}"] += 1
            return
        if event.outcome == "converted":
            line.audio_ratio.append((at, event.runtime_us / max(1, event.duration_us)))
        line.outcomes[f"audio {event.outcome}"] += 1

    def _left_out(self, at: int, event: VideoDropped | AudioSkipped | FrameThinned | FrameRejected) -> None:
        match event:
            case VideoDropped():
                what, count = f"frame {event.reason}", 1
            case AudioSkipped():
                what, count = f"sound {event.reason}", 1
            case FrameThinned():
                what, count = "frame thinned", event.frames
            case FrameRejected():
                what, count = f"{event.media} refused", 1
        self.timeline.drops.setdefault(what.replace("_", " "), []).append((at, count))

    def _advance(self, entry_id: EntryId) -> None:
        while self._next < len(self._rungs) and self._rungs[self._next][0].ms <= entry_id.ms:
            decision = self._rungs[self._next][1]
            self._interval_us = 1_000_000 // max(1, decision.fps)
            self._next += 1


def readable_decisions(written: Iterable[Written]) -> list[tuple[EntryId, PolicyDecision]]:
    """Return the decisions that this build can read, with their IDs."""
    found: list[tuple[EntryId, PolicyDecision]] = []
    for one in written:
        try:
            found.append((one.id, policy_decisions.decode(one.data)))
        except CodecError:
            continue
    return found


def lanes(written: Iterable[Written], line: SessionTimeline) -> Lanes:
    """Return what a stream of decisions did over the session's time."""
    made = Lanes(rung=[(0, 0)], chunk=[(0, line.chunk_ms)])
    silent: tuple[int, str] | None = None
    skipping: tuple[int, str] | None = None
    for found, decision in readable_decisions(written):
        at = found.ms - line.start_ms
        match decision:
            case SetVideo():
                made.rung.append((at, decision.rung))
            case SetChunk():
                made.chunk.append((at, decision.chunk_ms))
            case VoiceFailed():
                silent = silent or (at, "voice not converted")
            case VoiceRestored() if silent:
                made.voice.append((silent[0], at, silent[1]))
                silent = None
            case SoftSkip() if decision.of and not skipping:
                skipping = (at, f"one frame of {decision.of} left out")
            case SoftSkip(of=0) if skipping:
                made.skip.append((skipping[0], at, skipping[1]))
                skipping = None
            case _:
                pass
    if silent:
        made.voice.append((silent[0], line.length_ms, silent[1]))
    if skipping:
        made.skip.append((skipping[0], line.length_ms, skipping[1]))
    return made


def binned(points: list[Point], length_ms: int, bins: int) -> list[tuple[float, float, float, float]]:
    """Return (middle ms, least, mean, most) of every bin that has points: peaks survive, the page stays small."""
    width = max(1.0, length_ms / bins)
    groups: dict[int, list[float]] = {}
    for at, value in points:
        groups.setdefault(min(bins - 1, int(at / width)), []).append(value)
    return [((n + 0.5) * width, min(values), fmean(values), max(values)) for n, values in sorted(groups.items())]


def counted(drops: list[tuple[int, int]], length_ms: int, bins: int) -> list[int]:
    """Return how many of `drops`, (when, how many), fall into each bin."""
    width = max(1.0, length_ms / bins)
    counts = [0] * bins
    for at, count in drops:
        counts[min(bins - 1, int(at / width))] += count
    return counts
