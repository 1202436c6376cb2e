"""Decisions are compared by ID and bytes, and the first difference is named for what it is."""

import pytest

from ops.replay.compare import Comparison, Difference, Written, compare
from schemas.decisions import PER_CAUSE
from schemas.ids import ZERO, EntryId

LAST = EntryId(1000, 0)


def written(*at: int, data: bytes = b"d") -> list[Written]:
    return [Written(EntryId(ms, 0), data) for ms in at]


def test_equal_streams_are_the_same() -> None:
    assert compare(written(1, 2), written(1, 2), complete=True, last_metric=LAST) == Comparison(2)


def test_other_bytes_under_the_same_id_are_a_change() -> None:
    found = compare(written(1, 2), [*written(1), *written(2, data=b"x")], complete=True, last_metric=LAST)
    assert found == Comparison(1, Difference("changed", written(2)[0], written(2, data=b"x")[0]))


@pytest.mark.parametrize(
    ("folded", "recorded", "kind", "at"),
    [
        ((1, 2, 3), (1, 3), "missing", 2),
        ((1, 2), (1,), "missing", 2),
        ((1, 3), (1, 2, 3), "extra", 2),
        ((1,), (1, 2), "extra", 2),
        ((), (7,), "extra", 7),
    ],
)
def test_a_decision_on_one_side_only(folded: tuple[int, ...], recorded: tuple[int, ...], kind: str, at: int) -> None:
    found = compare(written(*folded), written(*recorded), complete=True, last_metric=LAST)
    assert found.difference is not None
    assert (found.difference.kind, found.difference.cause.ms) == (kind, at)


def test_the_tail_of_a_session_that_goes_on_is_no_difference() -> None:
    """What folding decides after the last recorded decision may not be written yet."""
    found = compare(written(1, 2, 3), written(1, 2), complete=False, last_metric=LAST)
    assert found == Comparison(2, None, pending=1)


def test_a_decision_of_an_event_that_is_not_here_yet_is_no_difference() -> None:
    found = compare(written(1), written(1, 2000), complete=False, last_metric=LAST)
    assert found == Comparison(1, None, ahead=1)


def test_a_gap_before_the_tail_is_a_difference_also_while_the_session_goes_on() -> None:
    found = compare(written(1, 2, 3), written(1, 3), complete=False, last_metric=LAST)
    assert found.difference == Difference("missing", written(2)[0], None)


def test_nothing_recorded_yet_is_all_pending() -> None:
    assert compare(written(1, 2), [], complete=False, last_metric=LAST) == Comparison(0, None, pending=2)


def test_a_decision_knows_its_cause() -> None:
    assert Written(EntryId(5, 3 * PER_CAUSE + 2), b"").cause == EntryId(5, 3)
    assert Difference("extra", None, None).cause == ZERO
