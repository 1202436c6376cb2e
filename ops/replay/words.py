"""Events, facts and decisions in one plain line each, for terminals and reports."""

from schemas.decisions import (
    Abandon,
    Decision,
    DropVideoUntil,
    LatencyTargetMissed,
    SetChunk,
    SetVideo,
    SoftSkip,
    VideoOverloaded,
    VoiceFailed,
    VoiceRestored,
)
from schemas.events import (
    ArchiveStatus,
    AudioProcessed,
    AudioSkipped,
    Backlog,
    Playback,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.message import Message, as_json

_SELDOM_READ = {"t", "v", "config", "producer", "seq"}


def name_of(message: Message) -> str:
    """Return the message's tag, such as `video_processed`."""
    return str(as_json(message)["t"])


def decision_text(decision: Decision) -> str:  # noqa: C901, PLR0911 - one line a decision: a table
    """Return what a decision orders."""
    match decision:
        case DropVideoUntil():
            return f"drop video before {media_time(decision.floor_us)}"
        case SoftSkip(of=0):
            return "leave no more frames out"
        case SoftSkip():
            return f"leave one frame of {decision.of} out"
        case SetChunk():
            return f"sound in chunks of {decision.chunk_ms} ms"
        case SetVideo():
            return f"video rung {decision.rung}: quality {decision.quality}, {decision.fps} fps, {decision.size} px"
        case VoiceFailed():
            return f"voice silent, tried again in {decision.retry_ms / 1000:g} s"
        case VoiceRestored():
            return "voice converted again, on trial"
        case LatencyTargetMissed():
            return f"{decision.e2e_us / 1000:.0f} ms end to end with chunks of {decision.chunk_ms} ms"
        case VideoOverloaded():
            return f"a frame takes {decision.ratio_pm / 10:.0f} % of its time on the lowest rung"
        case Abandon():
            return f"session ends: {decision.reason}"
        case _:
            return rest(decision, leave={"cause", "rule"})


def event_text(event: Message) -> str:  # noqa: PLR0911 - one line an event: a table
    """Return what an event or fact says."""
    match event:
        case VideoProcessed():
            return f"{event.outcome} in {_ms(event.runtime_us)}, {event.faces} face(s), {_confidence(event)}"
        case AudioProcessed():
            ratio = event.runtime_us / max(1, event.duration_us)
            return f"{event.outcome} {event.duration_us // 1000} ms in {_ms(event.runtime_us)} ({ratio:.0%})"
        case VideoDropped() | AudioSkipped():
            return f"dropped: {event.reason}, at {media_time(event.pts_us)}"
        case WorkerTook():
            return f"{event.kind} worker {event.worker} took the session (epoch {event.epoch})"
        case SessionStarted():
            return f"chunks of {event.chunk_ms} ms, rules version {event.rules_version}"
        case Playback():
            return f"end to end {_ms(event.e2e_us)}, {_ms(event.buffered_us)} buffered, {event.underruns} underruns"
        case Backlog():
            waits = {"video": event.video, "audio": event.audio, "outbound": event.outbound}
            return ", ".join(f"{name} {count}" for name, count in waits.items() if count is not None)
        case ArchiveStatus():
            return f"recording {event.state}, {event.missed} missed{': ' if event.detail else ''}{event.detail}"
        case Decision():
            return f"{event.rule}: {decision_text(event)} (because of {event.cause})"
        case _:
            return rest(event)


def _confidence(event: VideoProcessed) -> str:
    return f"detector {event.confidence_pm / 10:.0f} %" if event.detector_ran else "tracked"


def _ms(us: int) -> str:
    return f"{us / 1000:.0f} ms"


def rest(message: Message, *, leave: set[str] | None = None) -> str:
    """Return every other field as `name value`."""
    hidden = _SELDOM_READ | (leave or set())
    fields = {name: value for name, value in as_json(message).items() if name not in hidden and value is not None}
    return ", ".join(f"{name} {value}" for name, value in fields.items())


def media_time(us: int) -> str:
    """Return a media time or a duration as `m:ss.mmm`."""
    sign, ms = ("-" if us < 0 else ""), abs(us) // 1000
    return f"{sign}{ms // 60_000}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def clock(ms: int) -> str:
    """Return the milliseconds since a session's start as `m:ss.mmm`."""
    return media_time(ms * 1000)


def safe(text: str) -> str:
    """Return `text` with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
