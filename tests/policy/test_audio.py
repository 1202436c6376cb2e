"""The chunk ladder and the voice: exact counts and bounds of every row of the table in `policy/audio.py`."""

import pytest

from policy.audio import TOP
from policy.reducer import PolicyState, step
from schemas.decisions import LatencyTargetMissed, SetChunk, VoiceFailed, VoiceRestored
from schemas.errors import Misconfigured
from schemas.events import SessionStarted
from schemas.ids import EntryId
from schemas.policy_config import PolicyConfig
from tests.policy.tape import Tape, rules


def sizes(tape: Tape) -> list[int]:
    return [decision.chunk_ms for decision in tape.decided if isinstance(decision, SetChunk)]


def test_the_session_says_where_the_ladder_starts() -> None:
    assert Tape(chunk_ms=96).state.audio.chunk_ms == 96
    with pytest.raises(Misconfigured, match="100 ms; expected one of"):
        step(PolicyState(), EntryId(1, 0), SessionStarted(chunk_ms=100))


def test_chunks_grow_on_the_fortieth_above_three_quarters() -> None:
    tape = Tape()
    assert tape.chunks(39, 751) == []
    (decision,) = tape.chunk(751)
    assert decision == SetChunk(cause=f"{tape.ms}-0", rule="audio.grow", chunk_ms=256)
    assert tape.chunks(39, 751) == []
    assert rules(tape.chunk(751)) == ["audio.grow"]


def test_chunks_at_three_quarters_do_not_grow() -> None:
    assert Tape().chunks(500, 750) == []


def test_a_run_that_is_broken_starts_again() -> None:
    """The rule looks at the mean of the last 5: one quick chunk among four at 751 brings it below."""
    tape = Tape()
    tape.chunks(39, 751)
    tape.chunk(0)
    assert tape.chunks(4, 751) == []
    assert tape.chunks(39, 751) == []
    assert rules(tape.chunk(751)) == ["audio.grow"]


def test_a_ratio_is_the_mean_of_the_last_five() -> None:
    tape = Tape()
    for ratio in (100, 200, 300, 400, 500, 600):
        tape.chunk(ratio)
    assert tape.state.audio.ratio_pm == (200 + 300 + 400 + 500 + 600) // 5


@pytest.mark.parametrize("outcome", ["gated", "silenced", "passed"])
def test_what_was_not_converted_neither_counts_nor_resets(outcome: str) -> None:
    tape = Tape()
    tape.chunks(39, 751)
    for _ in range(100):
        assert tape.chunk(1, outcome=outcome) == []
        assert tape.skip() == []
    assert rules(tape.chunk(751)) == ["audio.grow"]


def test_chunks_shrink_on_the_hundred_and_twentieth_below_the_bound() -> None:
    tape = Tape()
    assert tape.chunks(119, 500) == []
    (decision,) = tape.chunk(500)
    assert decision == SetChunk(cause=f"{tape.ms}-0", rule="audio.shrink", chunk_ms=160)


def test_chunks_at_the_bound_do_not_shrink() -> None:
    """Whatever is predicted for them."""
    anything = PolicyConfig(chunk_accept_pm=1000)
    assert Tape(config=anything).chunks(500, 550) == []
    assert rules(Tape(config=anything).chunks(120, 549)) == ["audio.shrink"]


@pytest.mark.parametrize(("ratio_pm", "shrinks"), [(541, True), (542, False)])
def test_a_ripe_shrink_waits_for_the_ratio_predicted_on_the_smaller_rung(ratio_pm: int, *, shrinks: bool) -> None:
    """541 x 192 / 160 = 649.2 per mille; 542 makes 650.4, which would not be accepted."""
    tape = Tape()
    tape.chunks(120, ratio_pm)
    assert (sizes(tape) == [160]) is shrinks
    if not shrinks:
        assert rules(tape.chunk(541)) == ["audio.shrink"]


@pytest.mark.parametrize(("ratio_pm", "fired"), [(519, ["audio.shrink"]), (520, [])])
def test_a_predicted_ratio_at_the_bound_is_too_much(ratio_pm: int, fired: list[str]) -> None:
    """520 x 320 / 256 is 650 exactly."""
    assert rules(on_top().chunks(120, ratio_pm)) == fired


def test_the_lowest_rung_does_not_shrink() -> None:
    tape = Tape(chunk_ms=96)
    assert tape.chunks(500, 10) == []


def relapse(tape: Tape, after: int) -> None:
    """Shrink, and grow again on chunk number `after`."""
    while rules(tape.chunk(100)) != ["audio.shrink"]:
        pass
    tape.chunks(after - 40, 600)
    assert tape.chunks(39, 4000) == []  # the mean of five is above the bound from the first on
    assert rules(tape.chunk(4000)) == ["audio.grow"]


@pytest.mark.parametrize(("after", "patience"), [(600, 2), (601, 1)])
def test_growing_within_600_chunks_of_a_shrink_doubles_the_next_one(after: int, patience: int) -> None:
    tape = Tape()
    relapse(tape, after)
    assert tape.chunks(120 * patience - 1, 100) == []
    assert rules(tape.chunk(100)) == ["audio.shrink"]


def test_the_patience_ends_at_64_times() -> None:
    tape = Tape()
    seen = []
    for _ in range(8):
        relapse(tape, 100)
        seen.append(tape.state.audio.patience)
    assert seen == [2, 4, 8, 16, 32, 64, 64, 64]


def on_top() -> Tape:
    tape = Tape(chunk_ms=320)
    assert tape.state.audio.rung == TOP
    return tape


def test_the_voice_fails_on_the_fortieth_chunk_on_the_top_rung() -> None:
    tape = on_top()
    assert tape.chunks(39, 801) == []
    assert tape.chunk(801) == [VoiceFailed(cause=f"{tape.ms}-0", rule="audio.fail", retry_ms=10_000)]


def test_the_voice_does_not_fail_at_the_bound_or_below_the_top_rung() -> None:
    assert on_top().chunks(500, 800) == []
    tape = Tape(chunk_ms=256)
    assert rules(tape.chunks(40, 2000)) == ["audio.grow"]


def test_a_failed_voice_is_restored_by_the_first_audio_outcome_at_the_retry_time() -> None:
    tape = on_top()
    tape.chunks(40, 900)
    failed_ms = tape.ms
    assert tape.chunk(900, after_ms=9_999) == []
    restored = tape.chunk(1, outcome="silenced", after_ms=1)
    assert restored == [VoiceRestored(cause=f"{failed_ms + 10_000}-0", rule="audio.restore")]


def test_a_skipped_chunk_restores_too_and_a_frame_does_not() -> None:
    tape = on_top()
    tape.chunks(40, 900)
    assert tape.frame(after_ms=20_000) == []
    assert rules(tape.skip()) == ["audio.restore"]


def test_nothing_counts_while_the_voice_is_failed() -> None:
    tape = on_top()
    tape.chunks(40, 900)
    before = tape.state.audio
    tape.chunk(900)
    assert tape.state.audio == before


def test_every_further_fail_doubles_the_retry_up_to_160_s() -> None:
    tape, seen = on_top(), []
    for _ in range(7):
        (failed,) = tape.chunks(40, 900)
        assert isinstance(failed, VoiceFailed)
        seen.append(failed.retry_ms)
        assert rules(tape.chunk(outcome="silenced", after_ms=failed.retry_ms)) == ["audio.restore"]
    assert seen == [10_000, 20_000, 40_000, 80_000, 160_000, 160_000, 160_000]


@pytest.mark.parametrize(("after", "retry_ms"), [(600, 20_000), (601, 10_000)])
def test_a_voice_that_held_for_600_chunks_is_retried_after_10_s_again(after: int, retry_ms: int) -> None:
    tape = on_top()
    tape.chunks(40, 900)
    tape.chunk(outcome="silenced", after_ms=10_000)
    assert tape.chunks(after - 40, 700) == []
    assert tape.chunks(39, 2000) == []
    (failed,) = tape.chunk(2000)
    assert isinstance(failed, VoiceFailed)
    assert failed.retry_ms == retry_ms


def test_accepted_chunks_are_counted_by_their_own_ratio() -> None:
    tape = Tape()
    for ratio in (649, 650, 100, 900):
        tape.chunk(ratio)
    tape.chunk(1, outcome="gated")
    assert (tape.state.audio.accepted, tape.state.audio.converted) == (2, 4)


def test_the_latency_target_is_missed_when_the_median_of_ten_reports_is_above_it() -> None:
    tape = Tape()
    for e2e_us in (*[100_000] * 4, *[250_001] * 5):
        assert tape.playback(e2e_us) == []
    assert tape.playback(250_001) == [
        LatencyTargetMissed(cause=f"{tape.ms}-0", rule="audio.latency", e2e_us=250_001, chunk_ms=192)
    ]


def test_a_median_at_the_target_meets_it() -> None:
    tape = Tape()
    for e2e_us in (*[250_000] * 6, *[900_000] * 4):
        assert tape.playback(e2e_us) == []
    assert rules(tape.playback(900_000)) == ["audio.latency"]  # five and five: the middle two average above


def test_the_median_of_an_odd_number_is_the_middle_one() -> None:
    tape = Tape(config=PolicyConfig(latency_reports=3))
    for e2e_us in (900_000, 100, 250_000, 900_000):
        assert tape.playback(e2e_us) == []
    (missed,) = tape.playback(900_000)
    assert isinstance(missed, LatencyTargetMissed)
    assert missed.e2e_us == 900_000


def test_the_latency_target_is_missed_once_a_rung_by_reports_of_that_rung() -> None:
    tape = Tape()
    assert rules([d for _ in range(30) for d in tape.playback(300_000)]) == ["audio.latency"]
    tape.chunks(40, 900)
    assert [d for _ in range(9) for d in tape.playback(300_000)] == []
    (missed,) = tape.playback(300_000)
    assert isinstance(missed, LatencyTargetMissed)
    assert missed.chunk_ms == 256
    tape.chunks(120, 100)
    assert [d for _ in range(30) for d in tape.playback(300_000)] == []


def test_chunks_of_another_size_neither_count_nor_reset() -> None:
    """They were cut before a step took effect, or while policy was away."""
    tape = Tape()
    for _ in range(39):
        tape.chunk(900)
        tape.chunk(100, chunk_ms=256)
    assert rules(tape.chunk(900)) == ["audio.grow"]
    assert [d for _ in range(300) for d in tape.chunk(900, chunk_ms=192)] == []
