"""What a recorder counts as missing: what events prove to have existed, once, and nothing else."""

from ops.archive.missing import MissingMedia
from schemas.bus.base import Entry
from schemas.events import EVENT, DropReason, VideoDropped, VideoProcessed
from schemas.ids import ZERO, EntryId
from schemas.message import encode

STREAMS = ("video:in", "video:out", "audio:in", "audio:out")


def at(n: int) -> EntryId:
    return EntryId(1000 + n, 0)


def media(n: int) -> Entry:
    return Entry(at(n), {b"d": b""})


def processed(n: int) -> Entry:
    event = VideoProcessed(
        id=str(at(n)), pts_us=0, epoch=1, runtime_us=1, stages_us={}, faces=0,
        detector_ran=False, confidence_pm=0, outcome="covered",
    )  # fmt: skip
    return Entry(EntryId(9000 + n, 0), {EVENT: encode(event)})


def dropped(n: int) -> Entry:
    event = VideoDropped(id=str(at(n)), pts_us=0, epoch=1, reason=DropReason.LATE)
    return Entry(EntryId(9500 + n, 0), {EVENT: encode(event)})


def read_to(n: int) -> dict[str, EntryId]:
    return dict.fromkeys(STREAMS, at(n))


def test_what_is_in_the_file_is_not_missing() -> None:
    known = MissingMedia({})
    for n in range(5):
        known.note("video:in", media(n))
        known.note("video:out", media(n))
        known.note("metrics", processed(n))
    assert known.settle(read_to(4)) == 0


def test_an_input_and_its_output_count_one_each_a_dropped_input_has_no_output() -> None:
    known = MissingMedia({})
    known.note("video:in", media(9))
    known.note("video:out", media(9))
    known.note("metrics", processed(3))
    known.note("metrics", dropped(4))
    assert known.settle(read_to(9)) == 3
    assert known.missed == 3


def test_what_is_read_and_not_yet_written_waits() -> None:
    known = MissingMedia({})
    known.note("metrics", dropped(3))
    assert known.settle(read_to(3)) == 0
    known.note("video:in", media(3))
    assert known.settle(read_to(3)) == 0


def test_a_stream_that_ends_before_the_named_entry_has_lost_it() -> None:
    known = MissingMedia({})
    known.note("metrics", dropped(3))
    assert known.settle(dict.fromkeys(STREAMS, ZERO)) == 1


def test_an_entry_named_twice_is_missing_once() -> None:
    known = MissingMedia({})
    known.note("metrics", dropped(3))
    known.settle(read_to(0))
    known.note("metrics", dropped(3))
    known.settle(read_to(0))
    assert known.missed == 1


def test_what_a_predecessor_recorded_is_not_judged() -> None:
    known = MissingMedia(read_to(10))
    known.note("metrics", processed(7))
    assert known.settle(read_to(10)) == 0
