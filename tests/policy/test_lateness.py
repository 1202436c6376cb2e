"""What follows from lateness beside the drop floor: soft skip, and steps down the video ladder."""

import pytest

from schemas.decisions import SetVideo, SoftSkip
from schemas.events import DropReason
from tests.policy.tape import Tape, rules


def late(tape: Tape, frames: int, late_us: int = 60_000) -> list[str]:
    """Fold frames that are late by this much; sound is published after each."""
    found = []
    for _ in range(frames):
        found += tape.frame()
        found += tape.sample(late_us, after_ms=1)
    return rules(found)


def skipping(late_us: int = 60_000) -> Tape:
    tape = Tape()
    tape.frame()
    tape.sample(late_us)
    assert late(tape, 121, late_us) == ["sync.skip"]
    return tape


def test_soft_skip_begins_after_more_than_120_late_outcomes() -> None:
    tape = Tape()
    tape.frame()
    tape.sample(45_001)
    assert late(tape, 120, 45_001) == []
    assert tape.frame() == [SoftSkip(cause=f"{tape.ms}-0", rule="sync.skip", of=4)]


def test_video_at_the_bound_is_not_late() -> None:
    tape = Tape()
    tape.frame()
    assert late(tape, 500, 45_000) == []


def test_frames_after_a_sample_at_the_bound_are_not_late() -> None:
    tape = Tape()
    tape.frame()
    tape.sample(45_000)
    for _ in range(500):
        assert tape.frame(after_ms=1) == []


def test_a_sample_on_time_starts_the_run_again() -> None:
    tape = Tape()
    tape.frame()
    tape.sample(60_000)
    late(tape, 119)
    tape.frame()
    tape.sample(45_000)
    tape.sample(60_000)
    assert late(tape, 120) == []
    assert rules(tape.frame()) == ["sync.skip"]


def test_dropped_frames_are_outcomes_too() -> None:
    tape = Tape()
    tape.frame()
    tape.sample(60_000)
    for _ in range(120):
        assert tape.drop(DropReason.LATE, after_ms=1) == []
    assert rules(tape.drop(DropReason.LATE, after_ms=1)) == ["sync.skip"]


def test_soft_skip_ends_on_the_tenth_sample_in_a_row_at_20_ms() -> None:
    tape = skipping()
    assert late(tape, 9, 20_000) == []
    assert late(tape, 1, 20_001) == []
    assert late(tape, 9, 20_000) == []
    tape.frame()
    assert tape.sample(20_000) == [SoftSkip(cause=f"{tape.ms}-0", rule="sync.caught_up", of=0)]


def test_soft_skip_that_gains_less_than_10_ms_in_200_frames_is_given_up_for_60_s() -> None:
    tape = skipping()
    assert late(tape, 10, 49_002) == []  # with the 60 ms that came first: a mean of 50 001 µs
    for _ in range(189):
        assert tape.frame(after_ms=1) == []
    assert tape.frame(after_ms=1) == [SoftSkip(cause=f"{tape.ms}-0", rule="sync.no_gain", of=0)]
    given_up_ms = tape.ms
    while tape.ms + 52 < given_up_ms + 60_000:
        assert late(tape, 1) == []
    assert tape.frame(after_ms=given_up_ms + 59_999 - tape.ms) == []
    assert rules(tape.frame(after_ms=1)) == ["sync.skip"]


def test_one_early_sample_is_no_gain_of_a_soft_skip() -> None:
    """A sample is off by up to a frame interval: with ten of 60 ms, one of 25 ms makes a mean of 56.8 ms."""
    tape = skipping()
    assert late(tape, 9, 60_000) == []
    assert late(tape, 1, 25_000) == []
    for _ in range(189):
        assert tape.frame(after_ms=1) == []
    assert rules(tape.frame(after_ms=1)) == ["sync.no_gain"]


def test_a_frame_that_is_left_out_softly_makes_no_gap_to_be_forgiven() -> None:
    tape = skipping()
    tape.drop(DropReason.SOFT_SKIP)
    assert tape.state.sync.video_head_us == tape.pts_us
    tape.frame()
    assert tape.state.sync.gaps_us[-2:] == (50_000, 50_000)
    tape.drop(DropReason.SUPERSEDED)
    tape.frame()
    assert tape.state.sync.gaps_us[-1] == 100_000


def test_soft_skip_that_gains_10_ms_goes_on_and_has_to_gain_them_again() -> None:
    tape = skipping()
    assert late(tape, 10, 49_000) == []
    for _ in range(389):
        assert tape.frame(after_ms=1) == []
    assert rules(tape.frame(after_ms=1)) == ["sync.no_gain"]


@pytest.mark.parametrize(("quiet_ms", "sleeps"), [(1000, False), (1001, True)])
def test_soft_skip_is_forgotten_after_a_second_of_silence(quiet_ms: int, *, sleeps: bool) -> None:
    tape = skipping()
    audio_ms = tape.ms
    tape.frame(after_ms=500)
    found = tape.frame(after_ms=audio_ms + quiet_ms - tape.ms)
    assert found == ([SoftSkip(cause=f"{tape.ms}-0", rule="sync.sleep", of=0)] if sleeps else [])
    assert (tape.state.sync.late_us is None) is sleeps


@pytest.mark.parametrize(("quiet_ms", "fired"), [(1000, []), (1001, ["sync.sleep"])])
def test_soft_skip_is_forgotten_after_a_second_without_video(quiet_ms: int, fired: list[str]) -> None:
    tape = skipping()
    tape.frame()
    video_ms = tape.ms
    tape.chunk(outcome="gated", after_ms=500, end_us=0)
    tape.ms = video_ms + quiet_ms - 1
    assert rules(tape.chunk(outcome="gated", after_ms=1, end_us=0)) == fired


def test_silence_does_not_make_video_forgotten() -> None:
    tape = Tape()
    tape.frame()
    tape.sample(60_000)
    tape.frame(after_ms=600)
    tape.frame(after_ms=600)
    assert tape.state.sync.late_us is None
    assert tape.state.sync.video_head_us == tape.pts_us
    tape.sample(30_000)
    assert tape.state.sync.late_us == 30_000


def test_three_late_samples_each_with_a_new_frame_lead_a_rung_down() -> None:
    tape = Tape()
    tape.frame()
    assert rules(tape.sample(150_001)) == ["sync.drop"]
    tape.frame()
    assert rules(tape.sample(150_001)) == ["sync.drop"]
    tape.frame()
    floor, down = tape.sample(150_001)
    assert floor.rule == "sync.drop"
    assert isinstance(down, SetVideo)
    assert (down.rule, down.rung) == ("video.late", 1)


def test_samples_without_a_new_frame_do_not_count() -> None:
    tape = Tape()
    tape.frame()
    for late_us in (150_001, 200_000, 300_000, 400_000, 500_000):
        assert "video.late" not in rules(tape.sample(late_us))
    tape.frame()
    assert "video.late" not in rules(tape.sample(600_000))
    tape.frame()
    assert "video.late" in rules(tape.sample(700_000))


def test_a_sample_at_the_bound_starts_the_run_again() -> None:
    tape = Tape()
    for late_us in (160_000, 160_000, 150_000, 160_000, 160_000):
        tape.frame()
        assert "video.late" not in rules(tape.sample(late_us))
    tape.frame()
    assert "video.late" in rules(tape.sample(160_000))


@pytest.mark.parametrize(("after_ms", "counts"), [(1500, False), (1501, True)])
def test_samples_within_the_grace_after_a_takeover_do_not_count(after_ms: int, *, counts: bool) -> None:
    tape = Tape()
    tape.took()
    took_ms = tape.ms
    tape.frame(after_ms=1000)
    tape.sample(160_000, after_ms=took_ms + after_ms - tape.ms)
    assert tape.state.sync.late_samples == counts


def test_a_takeover_starts_the_run_again() -> None:
    tape = Tape()
    for _ in range(2):
        tape.frame()
        tape.sample(160_000)
    tape.took()
    assert tape.state.sync.late_samples == 0


def test_the_ladder_is_deaf_while_it_settles() -> None:
    tape = Tape()
    tape.frames(40, 900)
    found: list[str] = []
    for _ in range(19):
        tape.frame()
        found += rules(tape.sample(160_000))
    assert "video.late" not in found
    tape.frame()
    for _ in range(3):
        tape.frame()
        found += rules(tape.sample(160_000))
    assert found.count("video.late") == 1
