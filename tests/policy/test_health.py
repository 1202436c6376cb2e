"""Session health: 61 invalid of the last 200 received, exactly."""

from schemas.decisions import Abandon
from schemas.events import DropReason
from tests.policy.tape import Tape, rules


def invalid(tape: Tape, count: int) -> list[str]:
    return rules([d for _ in range(count) for d in tape.drop(DropReason.INVALID)])


def test_61_of_the_first_61_end_the_session_once() -> None:
    tape = Tape()
    assert invalid(tape, 60) == []
    assert tape.drop(DropReason.INVALID) == [
        Abandon(cause=f"{tape.ms}-0", rule="health.invalid", reason="invalid_frames")
    ]
    assert invalid(tape, 500) == []


def test_61_among_200_end_the_session() -> None:
    tape = Tape()
    invalid(tape, 60)
    tape.frames(139)
    assert invalid(tape, 1) == ["health.invalid"]


def test_60_among_200_do_not() -> None:
    tape = Tape()
    invalid(tape, 60)
    tape.frames(140)
    assert invalid(tape, 1) == []
    tape.frames(1)
    assert invalid(tape, 1) == []


def test_what_ingress_rejected_or_thinned_was_received() -> None:
    tape = Tape()
    for _ in range(60):
        assert tape.rejected() == []
    tape.thinned(139)
    assert rules(tape.rejected()) == ["health.invalid"]
    tape = Tape()
    for _ in range(60):
        assert tape.rejected() == []
    tape.thinned(140)
    assert tape.rejected() == []


def test_other_drops_are_valid_frames() -> None:
    tape = Tape()
    for _ in range(100):
        tape.drop(DropReason.ENGINE)
    assert (tape.state.health.received, tape.state.health.invalid) == (100, ())


def test_rejected_sound_is_no_frame() -> None:
    tape = Tape()
    assert [d for _ in range(300) for d in tape.rejected("audio")] == []
    assert tape.state.health.received == 0
