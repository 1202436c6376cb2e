"""The fold of decisions into what ingress acts on."""

import pytest

from ingress.in_force import InForce, at_start, fold
from ingress.params import StreamParams
from schemas.decisions import (
    Abandon,
    DropVideoUntil,
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
from schemas.session_store import SessionRecord

SESSION = SessionRecord(sid="0" * 32, owner="ada", created_ms=0, expires_ms=1, chunk_ms=128)
FAILED = VoiceFailed(cause="1-0", rule="voice.fail", retry_ms=10_000)
MISSED = LatencyTargetMissed(cause="1-0", rule="chunk.latency", e2e_us=301_999, chunk_ms=128)
OVERLOADED = VideoOverloaded(cause="1-0", rule="video.overload", ratio_pm=1_200)
DOWN = SetVideo(cause="1-0", rule="video.down", rung=5, quality=55, fps=15, size=512)
GROW = SetChunk(cause="1-0", rule="chunk.grow", chunk_ms=192)


def after(*decisions: PolicyDecision, record: SessionRecord = SESSION) -> InForce:
    """Return the state after `decisions`."""
    state = at_start(record)
    for decision in decisions:
        state = fold(state, decision, record)
    return state


def test_a_session_begins_as_it_was_created() -> None:
    assert after().params == StreamParams(chunk_ms=128, quality=85, fps=20, size=512, rung=0, reason="")
    assert after().as_status() == {
        "voice": "on",
        "soft_skip": 0,
        "latency_missed_ms": None,
        "overloaded_pm": None,
    }


def test_chunk_and_video_change_each_on_their_own_and_the_last_rule_is_the_reason() -> None:
    assert after(GROW).params == StreamParams(chunk_ms=192, reason="chunk.grow")
    both = StreamParams(chunk_ms=192, quality=55, fps=15, size=512, rung=5, reason="video.down")
    assert after(GROW, DOWN).params == both


@pytest.mark.parametrize(("on_voice_fail", "voice"), [("silence", "silent"), ("passthrough", "through")])
def test_a_failed_voice_is_silent_unless_the_session_allows_more(on_voice_fail: str, voice: str) -> None:
    record = SessionRecord(sid="0" * 32, owner="ada", created_ms=0, expires_ms=1, on_voice_fail=on_voice_fail)
    assert after(FAILED, record=record).voice == voice
    assert after(FAILED, VoiceRestored(cause="2-0", rule="voice.retry"), record=record).voice == "on"


def test_what_was_found_on_a_rung_is_forgotten_with_it() -> None:
    state = after(MISSED, OVERLOADED)
    assert (state.as_status()["latency_missed_ms"], state.as_status()["overloaded_pm"]) == (301, 1_200)
    assert after(MISSED, OVERLOADED, GROW).as_status()["latency_missed_ms"] is None
    assert after(MISSED, OVERLOADED, GROW).as_status()["overloaded_pm"] == 1_200
    assert after(MISSED, OVERLOADED, DOWN).as_status()["latency_missed_ms"] == 301
    assert after(MISSED, OVERLOADED, DOWN).as_status()["overloaded_pm"] is None


def test_soft_skip_and_abandon_are_seen_and_the_drop_floor_is_for_workers() -> None:
    assert after(SoftSkip(cause="1-0", rule="sync.skip", of=4)).as_status()["soft_skip"] == 4
    assert after(Abandon(cause="1-0", rule="health", reason="invalid")).abandoned
    assert after(DropVideoUntil(cause="1-0", rule="sync.drop", floor_us=9)) == after()


@pytest.mark.parametrize(
    "decision",
    [
        SetChunk(cause="1-0", rule="x", chunk_ms=0),
        SetChunk(cause="1-0", rule="x", chunk_ms=100),
        SetVideo(cause="1-0", rule="x", rung=0, quality=85, fps=0, size=512),
        SetVideo(cause="1-0", rule="x", rung=0, quality=0, fps=20, size=512),
        SetVideo(cause="1-0", rule="x", rung=0, quality=101, fps=20, size=512),
    ],
)
def test_orders_that_no_stream_can_follow_are_refused(decision: PolicyDecision) -> None:
    with pytest.raises(InputRejected, match="expected"):
        after(decision)
