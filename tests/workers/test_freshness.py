"""What is worked on, and what is dropped for which reason."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import DropReason
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader
from workers.freshness import Limits, Order, burst_size, select

LIVE = Limits(Order.NEWEST, 400)
FIFO = Limits(Order.FIFO, 400)


def entry(ms: int) -> MediaEntry:
    return MediaEntry(EntryId(ms, 0), MediaHeader(pts_us=ms * 1000, sent_us=0), b"")


def test_the_newest_is_worked_on_and_the_rest_is_superseded() -> None:
    work, drops = select(
        [entry(0), entry(50), entry(100)], limits=LIVE, floor_us=None, newest_ms=100, waited_us=0, burst=1
    )
    assert [item.id.ms for item in work] == [100]
    assert [(drop.entry.id.ms, drop.reason) for drop in drops] == [
        (0, DropReason.SUPERSEDED),
        (50, DropReason.SUPERSEDED),
    ]


def test_a_burst_that_there_is_time_for_loses_nothing() -> None:
    work, drops = select(
        [entry(0), entry(50), entry(100)], limits=LIVE, floor_us=None, newest_ms=100, waited_us=0, burst=3
    )
    assert [item.id.ms for item in work] == [0, 50, 100]
    assert drops == []
    assert burst_size(10_000, 50_000) == 4
    assert burst_size(30_000, 50_000) == 1
    assert burst_size(0, 50_000) == 4


def test_age_counts_stream_time_and_the_wait_here() -> None:
    entries = [entry(0), entry(399), entry(400)]
    work, drops = select(entries, limits=FIFO, floor_us=None, newest_ms=400, waited_us=0, burst=1)
    assert [drop.entry.id.ms for drop in drops] == []
    work, drops = select(entries, limits=FIFO, floor_us=None, newest_ms=400, waited_us=1_000, burst=1)
    assert [(drop.entry.id.ms, drop.reason) for drop in drops] == [(0, DropReason.STALE)]
    assert [item.id.ms for item in work] == [399, 400]


def test_frames_below_the_floor_are_late() -> None:
    work, drops = select([entry(0), entry(50)], limits=FIFO, floor_us=50_000, newest_ms=50, waited_us=0, burst=1)
    assert [item.id.ms for item in work] == [50]
    assert [(drop.entry.id.ms, drop.reason) for drop in drops] == [(0, DropReason.LATE)]


def test_a_backlog_that_was_read_in_part_is_judged_by_the_newest_input_of_all() -> None:
    entries = [entry(ms) for ms in range(2000, 2400, 50)]
    work, drops = select(entries, limits=LIVE, floor_us=None, newest_ms=2500, waited_us=0, burst=3)
    assert work == []
    assert [drop.reason for drop in drops] == [DropReason.STALE] * 2 + [DropReason.SUPERSEDED] * 6
    work, _ = select(entries, limits=FIFO, floor_us=None, newest_ms=2500, waited_us=0, burst=3)
    assert [item.id.ms for item in work] == [2100, 2150, 2200, 2250, 2300, 2350]


@given(
    st.lists(st.integers(0, 2000), max_size=12, unique=True).map(sorted),
    st.sampled_from([LIVE, FIFO]),
    st.one_of(st.none(), st.integers(0, 2_000_000)),
    st.integers(0, 1_000_000),
    st.integers(1, 4),
    st.sampled_from([0, 1000]),
)
def test_every_entry_is_worked_on_or_dropped_once_and_in_order(
    times: list[int], limits: Limits, floor_us: int | None, waited_us: int, burst: int, beyond: int
) -> None:
    entries = [entry(ms) for ms in times]
    newest_ms = (times or [0])[-1] + beyond
    work, drops = select(
        entries, limits=limits, floor_us=floor_us, newest_ms=newest_ms, waited_us=waited_us, burst=burst
    )
    dropped = [drop.entry.id for drop in drops]
    assert sorted([*(item.id for item in work), *dropped]) == [item.id for item in entries]
    assert dropped == sorted(dropped)
    assert [item.id for item in work] == sorted(item.id for item in work)
    if limits is LIVE:
        assert len(work) <= burst
