"""Folded once: what is said twice, by the wrong worker, or out of order changes nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.once import MOST_PRODUCERS, input_id
from policy.reducer import PolicyState, step
from schemas.errors import CodecError
from schemas.events import Backlog, FrameThinned, Playback, VideoProcessed
from schemas.ids import EntryId
from tests.policy.tape import Tape, eventful


def families(state: PolicyState) -> tuple[object, ...]:
    return state.sync, state.ladder, state.audio, state.faces, state.health


def test_an_entry_is_folded_once() -> None:
    tape = eventful()
    for entry_id, event in tape.events:
        assert step(tape.state, entry_id, event) == (tape.state, ())


def test_an_input_is_folded_once_whoever_says_so_again() -> None:
    """A new owner reports again what its predecessor may have reported; both carry the input's ID."""
    tape = Tape()
    tape.frame(900)
    tape.chunk(900)
    tape.took(epoch=2)
    tape.took("voice", epoch=2)
    before = families(tape.state)
    for _, event in tape.events[1:3]:
        tape.event(event)
    assert families(tape.state) == before


def test_outcomes_of_an_owner_that_was_replaced_do_not_count() -> None:
    tape = Tape()
    tape.took(epoch=3)
    tape.took("voice", epoch=5)
    before = families(tape.state)
    tape.frame(epoch=2)
    tape.chunk(epoch=4)
    assert families(tape.state) == before
    tape.frame(epoch=3)
    tape.chunk(epoch=5)
    assert tape.state.ladder.since_step == 1
    assert tape.state.audio.converted == 1


def test_an_older_takeover_that_arrives_late_changes_nothing() -> None:
    tape = Tape()
    tape.took(epoch=3)
    took_ms = tape.ms
    tape.took(epoch=2)
    tape.took("policy", epoch=9)
    assert (tape.state.video_epoch, tape.state.voice_epoch, tape.state.video_took_ms) == (3, 0, took_ms)


def thinned(producer: str, seq: int) -> FrameThinned:
    return FrameThinned(producer=producer, seq=seq, frames=1)


def test_a_report_counts_once_for_each_producer() -> None:
    tape = Tape()
    for producer, seq in (("a", 0), ("a", 0), ("b", 0), ("a", 2), ("a", 1), ("a", 2), ("b", 1)):
        tape.event(thinned(producer, seq))
    assert tape.state.health.received == 4


def test_the_sequence_of_a_producer_spans_its_types_of_report() -> None:
    tape = Tape()
    tape.event(Backlog(producer="a", seq=5, video=1))
    tape.event(thinned("a", 4))
    tape.event(Playback(producer="a", seq=5, audio_us=0, video_us=0, buffered_us=0, underruns=0, e2e_us=1))
    assert tape.state.health.received == 0
    assert tape.state.audio.delays_us == ()


def test_the_producer_that_was_silent_for_longest_is_forgotten_first() -> None:
    tape = Tape()
    for n in range(MOST_PRODUCERS):
        tape.event(thinned(f"p{n}", 0))
    tape.event(thinned("p0", 1))
    tape.event(thinned("new", 0))
    assert len(tape.state.producers) == MOST_PRODUCERS
    assert "p0" in tape.state.producers
    assert "p1" not in tape.state.producers


@given(st.integers(0, 10**20 - 1), st.integers(0, 10**20 - 1))
def test_input_ids_are_read_as_streams_write_them(ms: int, n: int) -> None:
    assert input_id(f"{ms}-{n}") == EntryId(ms, n)


@pytest.mark.parametrize(
    "text", ["", "1", "-", "1-", "-1", "+1-0", "1_0-0", " 1-0", "1-0-0", "\u0661-0", "1" * 21 + "-0"]
)
def test_what_is_no_id_is_refused_and_changes_nothing(text: str) -> None:
    frame = VideoProcessed(
        id=text,
        pts_us=0,
        epoch=1,
        runtime_us=0,
        stages_us={},
        faces=0,
        detector_ran=False,
        confidence_pm=0,
        outcome="swapped",
    )
    with pytest.raises(CodecError, match="not a stream entry ID"):
        step(PolicyState(), EntryId(1, 0), frame)
