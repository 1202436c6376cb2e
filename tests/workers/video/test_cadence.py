"""The detector's rhythm and a track's trust, counted exactly."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from workers.video.cadence import Cadence, Trust

SURE = st.floats(0.70, 1.0)
UNSURE = st.floats(0.0, 0.70, exclude_max=True)
ANY = st.floats(0.0, 1.0)


def run(confidences: list[float]) -> list[bool]:
    """Return on which frames the detector runs when frame i ends at `confidences[i]`."""
    cadence, ran = Cadence(), []
    for confidence in confidences:
        due = cadence.due()
        ran.append(due)
        cadence = cadence.after(detected=due, confidence=confidence)
    return ran


@given(st.lists(SURE, min_size=1, max_size=60))
def test_a_sure_session_detects_on_every_fifth_frame(confidences: list[float]) -> None:
    assert run(confidences) == [i % 5 == 0 for i in range(len(confidences))]


@given(st.lists(UNSURE, min_size=1, max_size=30))
def test_an_unsure_session_detects_on_every_frame(confidences: list[float]) -> None:
    assert all(run(confidences))


@given(st.lists(ANY, min_size=1, max_size=80))
def test_the_detector_runs_exactly_when_a_rule_says_so(confidences: list[float]) -> None:
    ran = run(confidences)
    last = None
    for i, runs in enumerate(ran):
        expected = last is None or confidences[i - 1] < 0.70 or i - last >= 5
        assert runs == expected
        last = i if runs else last


@given(st.lists(ANY, min_size=1, max_size=80))
def test_nobody_waits_longer_than_five_frames(confidences: list[float]) -> None:
    ran = [i for i, runs in enumerate(run(confidences)) if runs]
    assert all(b - a <= 5 for a, b in pairwise(ran))
    assert len(confidences) - 1 - ran[-1] < 5


def test_the_limit_itself_is_sure() -> None:
    assert run([0.70, 0.70]) == [True, False]
    assert run([0.6999, 0.70]) == [True, True]


def test_an_unsure_frame_between_detections_brings_the_next_forward() -> None:
    assert run([0.9, 0.9, 0.5, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9]) == [
        *(True, False, False, True, False, False, False, False, True),
    ]


def test_stable_on_the_third_confirmation_in_a_row() -> None:
    trust, stable = Trust(), []
    for _ in range(4):
        trust = trust.confirmed(0.85)
        stable.append(trust.stable)
    assert stable == [False, False, True, True]


@given(st.lists(st.one_of(st.none(), ANY), max_size=60))
def test_stable_means_the_last_three_detections_were_sure(scores: list[float | None]) -> None:
    trust = Trust()
    for score in scores:
        trust = trust.unseen() if score is None else trust.confirmed(score)
    last = scores[-3:]
    assert trust.stable == (len(last) == 3 and all(score is not None and score >= 0.85 for score in last))


def test_a_fleeting_track_ends_at_its_first_miss() -> None:
    assert not Trust().confirmed(0.99).confirmed(0.99).unseen().alive


def test_a_proven_track_outlives_five_misses() -> None:
    trust = Trust()
    for _ in range(3):
        trust = trust.confirmed(0.9)
    alive = []
    for _ in range(6):
        trust = trust.unseen()
        alive.append(trust.alive)
    assert alive == [True] * 5 + [False]


@given(st.lists(st.one_of(st.none(), ANY), max_size=60))
def test_misses_are_counted_in_a_row(scores: list[float | None]) -> None:
    trust = Trust()
    for score in scores:
        trust = trust.unseen() if score is None else trust.confirmed(score)
    seen = [i for i, score in enumerate(scores) if score is not None]
    assert trust.missed == len(scores) - (seen[-1] + 1 if seen else 0)
