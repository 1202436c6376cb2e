"""The session's time: monotone whatever the client's clock does, with sound and picture together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.buckets import Bucket
from ingress.outbox import Outbox
from ingress.timeline import LEAP_US, STEP_US, Timeline
from schemas.errors import InputRejected, Throttled
from schemas.wire import MediaType

V, A = MediaType.VIDEO, MediaType.AUDIO


def test_any_start_is_mapped_behind_where_the_session_stands() -> None:
    timeline = Timeline(7_000_000)
    first = timeline.map(V, 123_456_789)
    assert first.pts_us == 7_000_000 + STEP_US
    assert timeline.map(V, 123_506_789).pts_us == first.pts_us + 50_000
    assert first.pts_us - first.offset_us == 123_456_789


def test_sound_that_begins_a_little_before_the_picture_shares_its_offset() -> None:
    timeline = Timeline(0)
    offset_us = timeline.map(V, 1_000_000).offset_us
    assert timeline.map(A, 850_000, 192_000).offset_us == offset_us


def test_a_clock_that_begins_again_moves_both_media_alike() -> None:
    timeline = Timeline(0)
    for i in range(40):
        timeline.map(V, 9_000_000 + i * 50_000)
        head = timeline.map(A, 9_000_000 + i * 50_000, 50_000)
    again = timeline.map(V, 0)
    assert again.stepped
    assert again.pts_us > head.pts_us
    late = timeline.map(A, 9_000_000 + 40 * 50_000, 50_000)  # sound of before the restart that was still under way
    assert late.offset_us == head.offset_us
    follows = timeline.map(A, 0, 50_000)
    assert (follows.offset_us, follows.stepped) == (again.offset_us, True)


def test_a_picture_slightly_before_its_predecessor_is_refused_and_changes_nothing() -> None:
    timeline = Timeline(0)
    timeline.map(V, 1_000_000)
    for pts_us in (1_000_000, 950_000):
        with pytest.raises(InputRejected, match="not after"):
            timeline.map(V, pts_us)
    assert not timeline.map(V, 1_000_001).stepped


def test_a_leap_forward_is_a_new_start() -> None:
    timeline = Timeline(0)
    before = timeline.map(V, 0)
    after = timeline.map(V, LEAP_US + 1)
    assert after.stepped
    assert after.pts_us == before.pts_us + STEP_US


@given(st.lists(st.tuples(st.sampled_from([V, A]), st.integers(-(1 << 53), 1 << 53)), max_size=60))
def test_each_medium_is_monotone_for_any_times(messages: list[tuple[MediaType, int]]) -> None:
    timeline, last = Timeline(5), dict[MediaType, int]()
    for kind, pts_us in messages:
        try:
            mapped = timeline.map(kind, pts_us)
        except InputRejected:
            continue
        tolerance_us = 0 if kind is V else 100_000  # samples of sound are counted, see `Reframer`
        assert mapped.pts_us > last.get(kind, 5) - tolerance_us - (kind is A)
        assert mapped.pts_us - mapped.offset_us == pts_us
        last[kind] = max(last.get(kind, 5), mapped.pts_us)


def test_a_bucket_lets_a_burst_through_then_its_rate() -> None:
    bucket = Bucket("things", 10, 3, now_us=0)
    for _ in range(3):
        bucket.take(1, now_us=0)
    with pytest.raises(Throttled) as caught:
        bucket.take(1, now_us=0)
    assert 100 <= caught.value.retry_after_ms <= 101
    bucket.take(1, now_us=100_000)
    with pytest.raises(Throttled):
        bucket.take(1, now_us=150_000)


async def test_outbox_keeps_control_then_the_newest_sound_and_only_the_last_picture() -> None:
    outbox = Outbox(max_audio=2)
    for i in range(4):
        outbox.video(b"v%d" % i)
        outbox.audio(b"a%d" % i)
        outbox.control(f"c{i}")
    taken = [await outbox.take() for _ in range(7)]
    assert taken == ["c0", "c1", "c2", "c3", b"a2", b"a3", b"v3"]
    assert (outbox.dropped_video, outbox.dropped_audio) == (3, 2)


@pytest.mark.parametrize(("paused", "running"), [(V, A), (A, V)])
def test_a_medium_that_paused_for_long_comes_back_in_step_with_the_other(paused: MediaType, running: MediaType) -> None:
    timeline = Timeline(0)
    timeline.map(paused, 0)
    for i in range(300):
        offset_us = timeline.map(running, i * 50_000).offset_us
    back = timeline.map(paused, 300 * 50_000)
    assert (back.offset_us, back.stepped) == (offset_us, True)
    assert timeline.map(running, 300 * 50_000).offset_us == offset_us


def test_small_steps_back_do_not_add_up() -> None:
    timeline = Timeline(0)
    times = [timeline.map(A, 10_000_000 - i * 90_000).pts_us for i in range(100)]
    assert min(times[i] - max(times[:i]) for i in range(1, 100)) >= -100_000
