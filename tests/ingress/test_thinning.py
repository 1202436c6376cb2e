"""Thinning: never more than the rate in force, nothing lost by a client that keeps to it."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.thinning import SLACK, Thinner

RATES = [20, 18, 15]


def camera(fps: int, seconds: int, *, start_us: int = 0) -> list[int]:
    """Return the times of a steady camera."""
    return [start_us + n * 1_000_000 // fps for n in range(fps * seconds)]


def thinned(thinner: Thinner, times: list[int], fps: int) -> list[int]:
    """Return the times that pass."""
    return [pts_us for pts_us in times if thinner.admit(pts_us, fps)]


@given(st.lists(st.integers(1, 300_000), max_size=300), st.integers(1, 60), st.integers(-(10**9), 10**12))
def test_over_any_stretch_no_more_passes_than_the_rate_and_the_slack(gaps: list[int], fps: int, start_us: int) -> None:
    times = [start_us]
    for gap_us in gaps:
        times.append(times[-1] + gap_us)
    passed = thinned(Thinner(), times, fps)
    assert passed[0] == start_us
    for i, first_us in enumerate(passed):
        for count, last_us in enumerate(passed[i:], 1):
            assert count <= (last_us - first_us + count) * fps / 1e6 + SLACK + 1  # `count`: rounding, 1 us each


@given(st.sampled_from([*RATES, 24, 30]), st.lists(st.integers(-24_000, 24_000), min_size=1, max_size=200))
def test_a_client_that_keeps_to_the_rate_loses_nothing_whatever_its_jitter(fps: int, jitter_us: list[int]) -> None:
    """Any jitter of up to an interval against each other, which at 20 fps is 50 ms."""
    most_us = 500_000 // fps
    times = [n * 1_000_000 // fps + min(max(j, -most_us), most_us) for n, j in enumerate(jitter_us)]
    assert thinned(Thinner(), sorted(times), fps) == sorted(times)


def test_one_frame_that_is_stamped_late_costs_nothing() -> None:
    times = camera(20, 10)
    times[50] += 45_000
    assert thinned(Thinner(), times, 20) == times


@pytest.mark.parametrize("wanted", RATES)
@pytest.mark.parametrize("sent", [20, 30, 60])
def test_the_long_run_rate_is_exact_and_even(sent: int, wanted: int) -> None:
    """From a faster camera; after the slack is used up, gaps are even but for the camera's own interval and jitter."""
    times = [pts_us + n * 7919 % 2_000 for n, pts_us in enumerate(camera(sent, 100))]
    passed = thinned(Thinner(), times, wanted)
    assert wanted * 100 <= len(passed) <= wanted * 100 + SLACK
    settled = [b - a for a, b in pairwise(passed[-wanted * 50 :])]
    assert max(settled) - min(settled) <= (sent % wanted > 0) * 1_000_000 // sent + 4_000


@pytest.mark.parametrize("sent", [20, 30])
def test_the_rate_may_change_at_any_time(sent: int) -> None:
    """20, 18, 15 and back, on one schedule: each stretch has its own rate."""
    thinner, start_us = Thinner(), 0
    for wanted in (20, 18, 15, 18, 20):
        passed = thinned(thinner, camera(sent, 60, start_us=start_us), wanted)
        assert abs(len(passed) - wanted * 60) <= SLACK + 1
        start_us += 60_000_000


def test_a_pause_is_no_credit_for_a_burst() -> None:
    thinner = Thinner()
    thinned(thinner, camera(20, 1), 20)
    assert len(thinned(thinner, camera(60, 1, start_us=60_000_000), 20)) <= 20 + SLACK


def test_a_new_start_of_the_clock_lets_its_first_frame_through() -> None:
    thinner = Thinner()
    assert thinned(thinner, [7, 8, 9, 10, 11], 20) == [7, 8, 9]
    thinner.restart()
    assert thinned(thinner, [5, 6, 7, 8], 20) == [5, 6, 7]
