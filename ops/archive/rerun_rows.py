"""A session as rows for a viewer of time series: what `rerun_file` writes, without knowing Rerun.

| entity | rows |
|---|---|
| `video/before`, `video/after` | the JPEGs; a pair has one time, that of its input |
| `audio/before`, `audio/after` | WAV pieces in media time: what was said and what became of it sound together |
| `policy/video`, `policy/sound`, `policy/voice`, `policy/skip`, `owners/…` | what was in force, from when on |
| `policy/rung`, `policy/chunk_ms` | the same as numbers |
| `policy/log`, `facts/log` | every decision with its cause; what happened to the session |
| `latency/…`, `load/…`, `drops/…` | lateness, end-to-end delay, shares of the time that there is, drops by reason |

Times are milliseconds since the session's first event.
"""

import io
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ops.archive.model import RecordedSession
from ops.replay.compare import Written
from ops.replay.run import replay_session
from ops.replay.story import Story
from ops.replay.timeline import Point, SessionTimeline, readable_decisions
from ops.replay.words import decision_text, event_text, name_of
from schemas.bus.base import Entry
from schemas.decisions import (
    Abandon,
    LatencyTargetMissed,
    SetChunk,
    SetVideo,
    SoftSkip,
    VideoOverloaded,
    VoiceFailed,
    VoiceRestored,
)
from schemas.errors import CodecError
from schemas.events import (
    EVENT,
    ArchiveStatus,
    ConsentRevoked,
    RateLimited,
    SessionEnded,
    SessionStarted,
    TokenExpired,
    WorkerTook,
    metric_events,
)
from schemas.facts import SettingsChanged, control_facts
from schemas.media import SAMPLE_RATE, MediaEntry, unpack
from schemas.policy_config import VIDEO_LADDER

VIDEO = {"video:in": "video/before", "video:out": "video/after"}
SOUND = {"audio:in": "audio/before", "audio:out": "audio/after"}
INFO, WARN, ERROR = "INFO", "WARN", "ERROR"

_HOLE_US = 2_000_000  # a longer silence, or a step back, begins a new piece
_TOLD = (WorkerTook, SessionStarted, SessionEnded, ArchiveStatus, ConsentRevoked, RateLimited, TokenExpired)
_BAD = (Abandon, VoiceFailed)
_DOUBTFUL = (LatencyTargetMissed, VideoOverloaded)

State = tuple[int, str]
"""(ms since the start, what is in force from then on)."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a log."""

    at_ms: int
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture."""

    at_ms: int
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class Take:
    """One unbroken piece of sound."""

    at_ms: int
    wav: bytes


@dataclass(slots=True)
class SessionRows:
    """Everything but media, by entity."""

    sid: str
    start_ms: int
    series: dict[str, list[Point]] = field(default_factory=dict)
    states: dict[str, list[State]] = field(default_factory=dict)
    logs: dict[str, list[LogLine]] = field(default_factory=dict)


def session_rows(session: RecordedSession) -> SessionRows:
    """Return the rows of a session's events; the policy's state comes from folding them."""
    done = replay_session(session, tell=True)
    story, line = done.story, done.timeline
    rows = SessionRows(story.sid, line.start_ms)
    rows.series = {
        "latency/late_ms": line.late_ms,
        "latency/end_to_end_ms": line.e2e_ms,
        "load/video": line.video_ratio,
        "load/audio": line.audio_ratio,
    }
    for reason, drops in sorted(line.drops.items()):
        rows.series[f"drops/{reason.replace(' ', '_')}"] = [(at, float(count)) for at, count in drops]
    _add_decisions(rows, story.decisions, line)
    for kind in sorted({kind for _, kind, _ in line.took}):
        rows.states[f"owners/{kind}"] = [(at, worker) for at, took, worker in line.took if took == kind]
    rows.logs["facts/log"] = sorted(_facts(story, line.start_ms), key=lambda told: told.at_ms)
    rows.series = {name: points for name, points in rows.series.items() if points}
    return rows


def _add_decisions(rows: SessionRows, written: list[Written], line: SessionTimeline) -> None:
    first = VIDEO_LADDER[0]
    video: list[State] = [(0, _rung(0, first.quality, first.fps, first.size))]
    sound: list[State] = [(0, f"{line.chunk_ms} ms")]
    voice: list[State] = [(0, "converted")]
    skip: list[State] = [(0, "every frame")]
    rung: list[Point] = [(0, 0.0)]
    chunk: list[Point] = [(0, float(line.chunk_ms))]
    log: list[LogLine] = []
    for entry_id, decision in readable_decisions(written):
        at = entry_id.ms - line.start_ms
        level = ERROR if isinstance(decision, _BAD) else WARN if isinstance(decision, _DOUBTFUL) else INFO
        log.append(LogLine(at, level, f"{decision.rule}: {decision_text(decision)}, because of {decision.cause}"))
        match decision:
            case SetVideo():
                video.append((at, _rung(decision.rung, decision.quality, decision.fps, decision.size)))
                rung.append((at, float(decision.rung)))
            case SetChunk():
                sound.append((at, f"{decision.chunk_ms} ms"))
                chunk.append((at, float(decision.chunk_ms)))
            case VoiceFailed():
                voice.append((at, "failed"))
            case VoiceRestored():
                voice.append((at, "converted"))
            case SoftSkip():
                skip.append((at, f"all but one of {decision.of}" if decision.of else "every frame"))
            case _:
                pass
    rows.states |= {"policy/video": video, "policy/sound": sound, "policy/voice": voice, "policy/skip": skip}
    rows.series |= {"policy/rung": rung, "policy/chunk_ms": chunk}
    rows.logs["policy/log"] = log


def _rung(rung: int, quality: int, fps: int, size: int) -> str:
    return f"rung {rung}: {size} px, {fps} fps, quality {quality}"


def _facts(story: Story, start_ms: int) -> Iterator[LogLine]:
    """Yield what happened seldom enough to be read."""
    for problem in story.problems:
        yield LogLine(0, WARN, f"of this recording: {problem}")
    for entry in story.metrics:
        try:
            event = metric_events.decode(entry.fields.get(EVENT, b""))
        except CodecError as error:
            yield LogLine(entry.id.ms - start_ms, WARN, f"unreadable event {entry.id}: {error}")
            continue
        if isinstance(event, _TOLD):
            level = WARN if isinstance(event, ConsentRevoked) else INFO
            yield LogLine(entry.id.ms - start_ms, level, f"{name_of(event)}: {event_text(event)}")
    for entry in story.control:
        try:
            fact = control_facts.decode(entry.fields.get(EVENT, b""))
        except CodecError:
            continue  # a newer build's fact
        if isinstance(fact, SettingsChanged):
            yield LogLine(entry.id.ms - start_ms, INFO, f"{name_of(fact)}: {event_text(fact)}")


def shots(session: RecordedSession, stream: str, start_ms: int) -> Iterator[Shot]:
    """Yield the pictures of `video:in` or `video:out`; what is unreadable or empty is left out."""
    for entry in _media(session.entries(stream)):
        if entry.data:
            yield Shot(entry.id.ms - start_ms, entry.data)


def takes(session: RecordedSession, stream: str, start_ms: int) -> Iterator[Take]:
    """Yield the sound of `audio:in` or `audio:out` as WAV pieces: chunks at their media time, silence where one lacks.

    A piece begins when the input arrived in which its sound begins; media time that jumps begins a new one.
    """
    held, lead_us = bytearray(), _lead_us(session, stream)
    begins_ms = begins_us = 0
    for entry in _media(session.entries(stream)):
        data = entry.data[: len(entry.data) // 2 * 2]
        ahead_us = entry.header.pts_us - begins_us - len(held) // 2 * 1_000_000 // SAMPLE_RATE
        if held and abs(ahead_us) > _HOLE_US:
            yield Take(begins_ms, _wav(held))
            held = bytearray()
        if not held:
            begins_ms, begins_us, ahead_us = entry.id.ms - start_ms + lead_us // 1000, entry.header.pts_us, 0
        missing = ahead_us * SAMPLE_RATE // 1_000_000
        if missing > 0:
            held += bytes(2 * missing)
        held += data[2 * max(0, -missing) :]
    if held:
        yield Take(begins_ms, _wav(held))


def _lead_us(session: RecordedSession, stream: str) -> int:
    """Return by how much sound that comes out is older than the input it comes out with: the engine's lookahead."""
    first = next(_media(session.entries(stream)), None)
    if first is not None:
        for entry in _media(session.entries(stream.replace(":out", ":in"))):
            if entry.id == first.id:
                return first.header.pts_us - entry.header.pts_us
    return 0


def _media(entries: Iterable[Entry]) -> Iterator[MediaEntry]:
    for entry in entries:
        try:
            yield unpack(entry.id, entry.fields)
        except CodecError:
            continue


def _wav(pcm: bytearray) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(pcm)
    return sink.getvalue()
