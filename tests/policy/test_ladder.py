"""The video ladder: exact counts and bounds of every row of the table in `policy/ladder.py`."""

import pytest

from policy.ladder import BOTTOM, wait
from schemas.decisions import SetVideo, VideoOverloaded
from schemas.events import DropReason
from schemas.policy_config import VIDEO_LADDER
from tests.policy.tape import Tape, rules

SETTLING = 20


def rungs(tape: Tape) -> list[int]:
    return [decision.rung for decision in tape.decided if isinstance(decision, SetVideo)]


def lowered(to: int = 1) -> Tape:
    """Return a session that lost frames (each took little), and is settled on this rung."""
    tape = Tape()
    for rung in range(1, to + 1):
        tape.frames(5)
        for _ in range(11):
            tape.drop(DropReason.STALE)
        assert tape.state.ladder.rung == rung
        tape.frames(SETTLING)
    return tape


def test_the_ladder_goes_down_on_the_fortieth_slow_frame() -> None:
    tape = Tape()
    assert tape.frames(39, 751) == []
    (decision,) = tape.frame(751)
    assert decision == SetVideo(cause=f"{tape.ms}-0", rule="video.slow", rung=1, quality=75, fps=20, size=512)


def test_frames_at_the_bound_are_in_budget() -> None:
    assert Tape().frames(500, 750) == []


def test_the_first_twenty_outcomes_after_a_step_do_not_count() -> None:
    tape = Tape()
    tape.frames(40, 900)
    assert tape.frames(SETTLING + 39, 900) == []
    assert rules(tape.frame(900)) == ["video.slow"]


def test_every_rung_comes_in_order_and_the_last_is_the_end() -> None:
    tape = Tape()
    tape.frames(3000, 900)
    assert rungs(tape) == list(range(1, len(VIDEO_LADDER)))


def test_a_ratio_is_the_mean_of_the_last_five() -> None:
    """A detector frame every 5 does not break a run; one very slow frame does not make one."""
    tape = Tape()
    for _ in range(100):
        assert tape.frames(4, 600) == []
        assert tape.frame(1300) == []  # mean 740
    tape = Tape()
    found = [d for _ in range(8) for d in [*tape.frames(4, 700), *tape.frame(1100)]]
    assert found == []  # the mean of the first four is 700: the run begins with the fifth
    assert tape.frames(3, 780) == []
    assert rules(tape.frame(780)) == ["video.slow"]


def test_a_slow_camera_gives_every_frame_more_time() -> None:
    """At 12 fps a frame has 83 ms: 60 ms would be over the budget of 20 fps, and is not."""
    tape = Tape()
    for _ in range(500):
        assert tape.frame(1200, gap_us=83_333) == []
    assert tape.state.ladder.ratio_pm == 1200 * 50_000 // 83_333


def test_one_pause_of_the_camera_does_not_change_the_budget() -> None:
    tape = Tape()
    tape.frames(30)
    tape.frame(100, gap_us=2_000_000)
    assert tape.state.ladder.median_us == 50_000


@pytest.mark.parametrize("reason", [DropReason.STALE, DropReason.SUPERSEDED])
def test_eleven_drops_among_a_hundred_outcomes_lead_down(reason: DropReason) -> None:
    tape = Tape()
    for _ in range(10):
        assert tape.drop(reason) == []
    assert tape.frames(89) == []
    assert rules(tape.drop(reason)) == ["video.drops"]


def test_ten_drops_among_a_hundred_outcomes_do_not() -> None:
    tape = Tape()
    for _ in range(10):
        assert tape.drop(DropReason.STALE) == []
    assert tape.frames(90) == []
    assert tape.drop(DropReason.STALE) == []


@pytest.mark.parametrize(
    "reason", [DropReason.LATE, DropReason.SOFT_SKIP, DropReason.ENGINE, DropReason.ENDED, DropReason.INVALID]
)
def test_other_drops_do_not_lead_down(reason: DropReason) -> None:
    tape = Tape()
    assert [d for _ in range(50) for d in tape.drop(reason)] == []


@pytest.mark.parametrize(("after_ms", "counted"), [(1500, 0), (1501, 1)])
def test_drops_within_the_grace_after_a_takeover_do_not_count(after_ms: int, counted: int) -> None:
    tape = Tape()
    tape.took()
    tape.drop(DropReason.STALE, after_ms=after_ms)
    assert len(tape.state.ladder.drops) == counted


def test_the_ladder_goes_up_on_the_three_hundredth_stable_frame() -> None:
    tape = lowered()
    assert tape.frames(299, 599) == []
    (decision,) = tape.frame(599)
    assert isinstance(decision, SetVideo)
    assert (decision.rule, decision.rung, decision.quality) == ("video.up", 0, 85)


def test_frames_at_the_bound_are_not_stable() -> None:
    assert lowered().frames(5000, 600) == []


def test_the_whole_ladder_is_restored_in_reverse() -> None:
    tape = Tape()
    tape.frames(3000, 900)
    tape.frames((SETTLING + 300) * BOTTOM + 100, 100)
    assert rungs(tape) == [*range(1, BOTTOM + 1), *range(BOTTOM - 1, -1, -1)]
    assert tape.frames(1000) == []


def test_two_in_a_hundred_may_be_unstable_and_the_seventh_of_three_hundred_starts_again() -> None:
    tape = lowered()
    for _ in range(6):
        assert tape.drop(DropReason.LATE) == []
    assert tape.frames(293) == []
    assert rules(tape.frame()) == ["video.up"]
    tape = lowered()
    tape.frames(100)
    for _ in range(7):
        assert tape.drop(DropReason.LATE) == []
    assert tape.frames(299) == []
    assert rules(tape.frame()) == ["video.up"]


def test_the_step_up_waits_for_a_stable_frame() -> None:
    tape = lowered()
    tape.frames(299)
    assert tape.drop(DropReason.LATE) == []
    assert rules(tape.frame()) == ["video.up"]


@pytest.mark.parametrize("reason", [DropReason.SOFT_SKIP, DropReason.INVALID, DropReason.ENGINE, DropReason.ENDED])
def test_soft_skips_neither_count_nor_reset(reason: DropReason) -> None:
    tape = lowered()
    tape.frames(299)
    for _ in range(50):
        assert tape.drop(reason) == []
    assert rules(tape.frame()) == ["video.up"]


@pytest.mark.parametrize(("late_us", "fires"), [(45_000, True), (45_001, False)])
def test_frames_while_video_is_late_are_not_stable(late_us: int, *, fires: bool) -> None:
    tape = lowered()
    for _ in range(299):
        tape.frame()
    tape.sample(late_us)
    assert (rules(tape.frame()) == ["video.up"]) is fires


def test_a_rung_that_would_be_over_budget_is_probed_after_four_times_the_count() -> None:
    """900 per mille there, and nothing has changed here since."""
    tape = Tape()
    tape.frames(40, 900)
    tape.frames(SETTLING, 500)
    assert tape.frames(1199, 500) == []
    assert rules(tape.frame(500)) == ["video.probe"]


@pytest.mark.parametrize(("now_pm", "rule"), [(416, "video.up"), (417, "video.probe")])
def test_what_is_remembered_of_the_upper_rung_is_scaled_by_what_changed_since(now_pm: int, rule: str) -> None:
    """900 there and 500 here, then; 416 here now promises 748 there, 417 promises 750."""
    tape = Tape()
    tape.frames(40, 900)
    tape.frames(SETTLING + 40, 500)
    found: list[str] = []
    while not found:
        found = rules(tape.frame(now_pm))
    assert found == [rule]


def test_the_ratio_of_the_lower_rung_is_that_of_its_first_forty_frames() -> None:
    """The mean of eight times 100 and 32 times 600 is 500, not 100."""
    tape = Tape()
    tape.frames(40, 900)
    tape.frames(SETTLING)
    tape.frames(8, 100)
    tape.frames(31, 600)
    assert tape.state.ladder.below_pm[0] == 0
    tape.frame(600)
    assert tape.state.ladder.below_pm[0] == 500
    tape.frames(100, 100)
    assert tape.state.ladder.below_pm[0] == 500


@pytest.mark.parametrize("counted", [12, 0])
def test_rungs_that_were_passed_through_need_no_probe_when_all_is_calm_again(counted: int) -> None:
    """A burst leaves no time for forty frames a rung; what those that counted say is compared, nothing if none did."""
    tape = Tape()
    tape.frames(20, 2600)
    for _ in range(3):
        while not any(isinstance(decision, SetVideo) for decision in tape.drop(DropReason.SUPERSEDED)):
            pass
        tape.frames(SETTLING + counted, 2600)
    assert rungs(tape) == [1, 2, 3]
    tape.frames(35 - counted, 2600)  # and four more are over by the mean of five
    tape.frames(3 * (SETTLING + 300) + 300, 400)
    assert rungs(tape)[-3:] == [2, 1, 0]


def test_a_trend_forgets_as_it_goes_on() -> None:
    """At 80 frames its sum and its number are halved: 40 frames of 500 are left, and 40 of 100 come to them."""
    tape = Tape()
    tape.frames(80, 500)
    assert tape.state.ladder.trend == (20_000, 40)
    tape.frames(39, 100)
    assert tape.state.ladder.trend_pm == 23_900 // 79
    tape.frames(600, 100)
    assert tape.state.ladder.trend_pm == 100


def test_a_single_lucky_moment_does_not_lead_up() -> None:
    """790 there and 400 here: five frames of 370, ever and again, would promise 731 there."""
    tape = Tape()
    tape.frames(40, 790)
    tape.frames(SETTLING + 40, 400)
    for _ in range(24):
        assert tape.frames(40, 400) == []
        assert tape.frames(5, 370) == []


def test_a_load_that_came_suddenly_is_remembered_as_it_was() -> None:
    """The trend still has calm frames in it when the rung is left."""
    tape = Tape()
    tape.frames(79, 100)
    assert rules(tape.frames(44, 900)) == ["video.slow"]
    assert tape.state.ladder.left_pm[0] == 900


def climbed() -> Tape:
    """Return a session that went down to rung 1 and up again just now."""
    tape = lowered()
    assert rules(tape.frames(300)) == ["video.up"]
    return tape


@pytest.mark.parametrize(("after", "need"), [(2400, 600), (2401, 300)])
def test_a_relapse_within_2400_frames_of_going_up_doubles_that_rungs_count(after: int, need: int) -> None:
    tape = climbed()
    tape.frames(after - 40, 100)
    assert tape.frames(39, 4000) == []
    assert rules(tape.frame(4000)) == ["video.slow"]
    config = tape.state.config
    assert [wait(tape.state.ladder, config, rung) for rung in (0, 1)] == [need, 300]
    tape.frames(SETTLING + 40, 300)
    assert tape.frames(need - 41, 10) == []
    assert rules(tape.frame(10)) == ["video.up"]


def test_relapses_double_up_to_4800_and_as_many_calm_frames_bring_300_back() -> None:
    tape, seen = climbed(), []
    for _ in range(6):
        tape.frames(SETTLING)
        assert rules(tape.frames(40, 900)) == ["video.slow"]
        seen.append(wait(tape.state.ladder, tape.state.config, 0))
        tape.frames(SETTLING)
        tape.frames(40, 590)
        assert rules(tape.frames(seen[-1] - 40, 10)) == ["video.up"]
    assert seen == [600, 1200, 2400, 4800, 4800, 4800]
    tape.frames(4799)
    assert wait(tape.state.ladder, tape.state.config, 0) == 4800
    tape.frame()
    assert wait(tape.state.ladder, tape.state.config, 0) == 300


def test_overload_is_reported_on_the_hundredth_frame_over_budget_on_the_lowest_rung() -> None:
    tape = lowered(BOTTOM)
    assert tape.frames(99, 900) == []
    assert tape.frame(900) == [VideoOverloaded(cause=f"{tape.ms}-0", rule="video.overload", ratio_pm=900)]
    assert tape.frames(500, 900) == []


@pytest.mark.parametrize(("within", "again"), [(99, []), (100, ["video.overload"])])
def test_overload_is_reported_anew_after_a_hundred_frames_within_budget(within: int, again: list[str]) -> None:
    """The mean of five comes to the bound with the second cheap frame, and leaves it on the fourth dear one."""
    tape = lowered(BOTTOM)
    assert rules(tape.frames(100, 790)) == ["video.overload"]
    assert tape.frames(1 + within - 3, 690) == []
    assert rules(tape.frames(300, 790)) == again


def test_frames_of_another_rung_neither_count_nor_settle() -> None:
    """Frames that were taken before a step, or while policy was away: they say nothing of the rung in force."""
    tape = Tape()
    for _ in range(39):
        tape.frame(900)
        tape.frame(900, rung=3)
    assert rules(tape.frame(900)) == ["video.slow"]
    assert [d for _ in range(SETTLING + 100) for d in tape.frame(900, rung=0)] == []
    assert tape.state.ladder.settling == SETTLING
    assert tape.frames(SETTLING + 39, 900) == []
    assert rules(tape.frame(900)) == ["video.slow"]


def test_a_service_that_catches_up_on_a_minute_of_load_takes_the_one_step_that_it_can_answer_for() -> None:
    tape = Tape()
    caught_up = [d for _ in range(1200) for d in tape.frame(900, rung=0)]
    assert rules(caught_up) == ["video.slow"]
