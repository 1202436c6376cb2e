"""The drop floor: exact thresholds, and the properties of the fold that replay rests on."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy.reducer import Decided, PolicyState, step
from policy.snapshot import pack, unpack
from schemas.decisions import DropVideoUntil
from schemas.errors import CodecError, Misconfigured
from schemas.events import (
    AudioProcessed,
    AudioSkipped,
    DropReason,
    MetricEvent,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import EntryId

Events = list[tuple[EntryId, MetricEvent]]


def video(media_ms: int, pts_us: int, epoch: int = 1) -> VideoProcessed:
    return VideoProcessed(
        id=f"{media_ms}-0",
        pts_us=pts_us,
        epoch=epoch,
        runtime_us=1,
        stages_us={},
        faces=1,
        detector_ran=False,
        confidence_pm=1000,
        outcome="swapped",
    )


def audio(media_ms: int, pts_us: int, epoch: int = 1, duration_us: int = 192_000) -> AudioProcessed:
    return AudioProcessed(
        id=f"{media_ms}-0",
        pts_us=pts_us,
        epoch=epoch,
        duration_us=duration_us,
        runtime_us=1,
        stages_us={},
        outcome="converted",
    )


def fold(events: Events, state: PolicyState | None = None) -> tuple[PolicyState, list[Decided]]:
    state = state or PolicyState()
    decided: list[Decided] = []
    for entry_id, event in events:
        state, decisions = step(state, entry_id, event)
        decided += decisions
    return state, decided


def at(ms: int) -> EntryId:
    return EntryId(ms, 0)


def floors(decided: list[Decided]) -> list[int]:
    return [decision.floor_us for _, decision in decided if isinstance(decision, DropVideoUntil)]


@pytest.mark.parametrize(("behind_us", "expected"), [(150_000, []), (150_001, [50_001 + 1_000_000])])
def test_the_floor_moves_above_150_ms_of_lateness_and_not_at_it(behind_us: int, expected: list[int]) -> None:
    """One frame interval (50 ms) is forgiven: V = 1 s, A = 1 s + 50 ms + behind."""
    events: Events = [
        (at(1000), video(1000, 1_000_000)),
        (at(1010), audio(1000, 1_050_000 + behind_us - 192_000)),
    ]
    _, decided = fold(events)
    assert floors(decided) == expected
    for decision_id, decision in decided:
        assert decision.cause == "1010-0"
        assert decision_id == EntryId(1010, 0)
        assert decision.rule == "sync.drop"


def test_a_slow_camera_is_not_lateness() -> None:
    """At 4 fps the gap between published frames is 250 ms, and that much is forgiven."""
    events: Events = [(at(1000 + 250 * n), video(1000 + 250 * n, 250_000 * n)) for n in range(4)]
    head = 750_000
    _, on_time = fold([*events, (at(1800), audio(1800, head + 250_000 + 150_000 - 192_000))])
    assert on_time == []
    _, late = fold([*events, (at(1800), audio(1800, head + 250_000 + 150_001 - 192_000))])
    assert len(late) == 1


def test_nothing_is_late_before_there_is_video() -> None:
    assert fold([(at(1000 + n), audio(1000 + n, 192_000 * n)) for n in range(5)])[1] == []


def test_the_rules_sleep_after_a_second_without_video() -> None:
    late = audio(2500, 3_000_000)
    assert fold([(at(1000), video(1000, 0)), (at(2000), late)])[1] != []
    assert fold([(at(1000), video(1000, 0)), (at(2001), late)])[1] == []


def test_dropped_frames_keep_the_rules_awake_but_do_not_advance_video() -> None:
    dropped = VideoDropped(id="1500-0", pts_us=500_000, epoch=1, reason=DropReason.LATE)
    _, decided = fold([(at(1000), video(1000, 0)), (at(1500), dropped), (at(2400), audio(2400, 3_000_000))])
    assert floors(decided) == [3_192_000 - 150_000]


def test_skipped_sound_moves_nothing() -> None:
    skipped = AudioSkipped(id="1500-0", pts_us=9_000_000, epoch=1, reason=DropReason.STALE)
    state, decided = fold([(at(1000), video(1000, 0)), (at(1500), skipped)])
    assert decided == []
    assert state.sync.audio_head_us is None


def test_early_video_decides_nothing() -> None:
    assert fold([(at(1000), video(1000, 9_000_000)), (at(1010), audio(1010, 0))])[1] == []


def test_a_zombies_outcome_does_not_count() -> None:
    events: Events = [
        (at(1000), WorkerTook(kind="video", worker="b", epoch=2)),
        (at(1001), video(1001, 5_000_000, epoch=1)),
    ]
    assert fold(events)[0].sync.video_head_us is None
    assert fold([*events, (at(1002), video(1002, 5_000_000, epoch=2))])[0].sync.video_head_us == 5_000_000


def test_other_rules_cannot_fold_these_events() -> None:
    with pytest.raises(Misconfigured, match="rules version 99"):
        step(PolicyState(), at(1), SessionStarted(rules_version=99))


SESSIONS = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.one_of(
            st.builds(video, st.integers(1, 400), st.integers(0, 4_000_000), st.integers(1, 3)),
            st.builds(audio, st.integers(1, 400), st.integers(0, 4_000_000), st.integers(1, 3)),
            st.builds(
                WorkerTook,
                kind=st.sampled_from(["video", "voice", "policy"]),
                worker=st.just("w"),
                epoch=st.integers(1, 3),
            ),
        ),
    ),
    max_size=40,
)


def stream(raw: list[tuple[int, MetricEvent]]) -> Events:
    clock, events = 1000, []
    for gap_ms, event in raw:
        clock += gap_ms + 1
        events.append((EntryId(clock, 0), event))
    return events


@settings(max_examples=200)
@given(SESSIONS)
def test_the_floor_never_moves_back(raw: list[tuple[int, MetricEvent]]) -> None:
    found = floors(fold(stream(raw))[1])
    assert found == sorted(set(found))


@settings(max_examples=200)
@given(SESSIONS, st.integers(0, 40))
def test_a_fold_that_is_cut_anywhere_and_resumed_from_a_snapshot_is_one_fold(
    raw: list[tuple[int, MetricEvent]], cut: int
) -> None:
    events = stream(raw)
    whole_state, whole = fold(events)
    first_state, first = fold(events[:cut])
    resumed = unpack(pack(first_state))
    assert resumed == first_state
    rest_state, rest = fold(events[cut:], resumed)
    assert (rest_state, first + rest) == (whole_state, whole)


@settings(max_examples=200)
@given(SESSIONS, st.data())
def test_repeated_events_change_nothing(raw: list[tuple[int, MetricEvent]], data: st.DataObject) -> None:
    events = stream(raw)
    repeated: Events = []
    for n, item in enumerate(events):
        repeated.append(item)
        if data.draw(st.booleans()):
            repeated.append(events[data.draw(st.integers(0, n))])
    assert fold(repeated) == fold(events)


def test_a_damaged_snapshot_is_named_and_one_of_other_rules_is_ignored() -> None:
    assert unpack({}) is None
    assert unpack(pack(PolicyState()) | {b"rules_version": b"99"}) is None
    with pytest.raises(CodecError, match="damaged"):
        unpack(pack(PolicyState()) | {b"state": b"\xc1"})
