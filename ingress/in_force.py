"""What the policy has ordered so far for one session, as far as ingress acts on it. Pure: a fold of its decisions.

| decision | what changes |
|---|---|
| `SetChunk` | length of the chunks; what was said about the latency on the length before is forgotten |
| `SetVideo` | rung, quality, fps and size; what was said about overload on the rung before is forgotten |
| `VoiceFailed`, `VoiceRestored` | `voice`: `silent` (or `through`, if the session was created so), `on` |
| `LatencyTargetMissed`, `VideoOverloaded`, `SoftSkip` | facts, for the publisher's `status` |
| `Abandon` | the session is over |
| `DropVideoUntil` | nothing: workers obey it |

A decision that no ladder holds is refused: a chunk of 0 ms would never be full.
"""

from dataclasses import dataclass, replace
from typing import Any

from ingress.params import StreamParams
from schemas.decisions import (
    Abandon,
    LatencyTargetMissed,
    PolicyDecision,
    SetChunk,
    SetVideo,
    SoftSkip,
    VideoOverloaded,
    VoiceFailed,
    VoiceRestored,
)
from schemas.errors import InputRejected
from schemas.media import VOICE_ON, VOICE_SILENT, VOICE_THROUGH
from schemas.policy_config import CHUNK_LADDER_MS
from schemas.session_store import SessionRecord

_MOST_FPS, _BEST_QUALITY = 60, 100


@dataclass(frozen=True, slots=True)
class InForce:
    """The state after some decisions."""

    params: StreamParams
    voice: str = VOICE_ON
    """What becomes of sound: `on`, `silent` or `through`."""
    skip_of: int = 0
    """One frame of every so many is left out by the workers; 0: none."""
    latency_missed: LatencyTargetMissed | None = None
    """While the chunks are as long as when it was found."""
    overloaded: VideoOverloaded | None = None
    """While the video rung is the one on which it was found."""
    abandoned: bool = False

    def as_status(self) -> dict[str, Any]:
        """Return the part of the publisher's `status` that comes from decisions."""
        missed, overloaded = self.latency_missed, self.overloaded
        return {
            "voice": self.voice,
            "soft_skip": self.skip_of,
            "latency_missed_ms": None if missed is None else missed.e2e_us // 1000,
            "overloaded_pm": None if overloaded is None else overloaded.ratio_pm,
        }


def at_start(record: SessionRecord) -> InForce:
    """Return what is in force before the first decision."""
    return InForce(StreamParams(chunk_ms=record.chunk_ms))


def fold(state: InForce, decision: PolicyDecision, record: SessionRecord) -> InForce:
    """Return what is in force after `decision`; raises `InputRejected` for one that cannot be obeyed."""
    match decision:
        case SetChunk():
            after = replace(state, params=_chunk(state.params, decision), latency_missed=None)
        case SetVideo():
            after = replace(state, params=_video(state.params, decision), overloaded=None)
        case VoiceFailed():
            after = replace(state, voice=VOICE_THROUGH if record.on_voice_fail == "passthrough" else VOICE_SILENT)
        case VoiceRestored():
            after = replace(state, voice=VOICE_ON)
        case SoftSkip():
            after = replace(state, skip_of=decision.of)
        case LatencyTargetMissed():
            after = replace(state, latency_missed=decision)
        case VideoOverloaded():
            after = replace(state, overloaded=decision)
        case Abandon():
            after = replace(state, abandoned=True)
        case _:
            after = state
    return after


def _chunk(params: StreamParams, to: SetChunk) -> StreamParams:
    if to.chunk_ms not in CHUNK_LADDER_MS:
        raise InputRejected(f"SetChunk to {to.chunk_ms} ms; expected one of {list(CHUNK_LADDER_MS)}")
    return replace(params, chunk_ms=to.chunk_ms, reason=to.rule)


def _video(params: StreamParams, to: SetVideo) -> StreamParams:
    if not 1 <= to.fps <= _MOST_FPS or not 1 <= to.quality <= _BEST_QUALITY:
        raise InputRejected(
            f"SetVideo to {to.fps} fps at quality {to.quality}; expected 1 to {_MOST_FPS} and 1 to {_BEST_QUALITY}"
        )
    return replace(params, rung=to.rung, quality=to.quality, fps=to.fps, size=to.size, reason=to.rule)
