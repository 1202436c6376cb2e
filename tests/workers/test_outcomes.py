"""What a new owner takes for settled."""

from schemas.bus.base import Planes
from schemas.bus.memory import MemoryBus
from schemas.events import EVENT, AudioSkipped, DropReason, MetricEvent, VideoDropped, VideoProcessed, WorkerTook
from schemas.ids import ZERO, EntryId
from schemas.media import MediaHeader, pack
from schemas.message import encode
from schemas.names import Kind
from workers.outcomes import before, last_reported, unreported


def dropped(ms: int, epoch: int) -> VideoDropped:
    return VideoDropped(id=f"{ms}-0", pts_us=0, epoch=epoch, reason=DropReason.STALE)


def took(epoch: int, kind: Kind = Kind.VIDEO) -> WorkerTook:
    return WorkerTook(kind=kind, worker="w", epoch=epoch)


async def metrics(*events: MetricEvent) -> Planes:
    bus = MemoryBus()
    await bus.append_all("m", [{EVENT: encode(event)} for event in events])
    return Planes(bus, bus)


async def test_the_newest_outcome_that_counts_is_the_last_reported() -> None:
    planes = await metrics(took(1), dropped(10, 1), dropped(20, 1), took(2), took(1, Kind.VOICE))
    assert await last_reported(planes, "m", Kind.VIDEO) == EntryId(20, 0)
    assert await last_reported(planes, "m", Kind.VOICE) == ZERO


async def test_a_zombies_report_after_it_was_fenced_off_is_not_settled() -> None:
    planes = await metrics(took(1), dropped(10, 1), took(2), dropped(20, 1))
    assert await last_reported(planes, "m", Kind.VIDEO) == EntryId(10, 0)
    planes = await metrics(took(1), dropped(10, 1), took(2), dropped(20, 1), dropped(15, 2))
    assert await last_reported(planes, "m", Kind.VIDEO) == EntryId(15, 0)


async def test_it_looks_past_any_number_of_other_events() -> None:
    other = [AudioSkipped(id=f"{n}-0", pts_us=0, epoch=1, reason=DropReason.STALE) for n in range(600)]
    planes = await metrics(took(1), dropped(10, 1), *other)
    assert await last_reported(planes, "m", Kind.VIDEO) == EntryId(10, 0)
    assert await last_reported(await metrics(*other), "m", Kind.VIDEO) == ZERO


async def test_outputs_that_nobody_reported_are_reported_in_the_new_owners_epoch() -> None:
    bus = MemoryBus()
    outcome = VideoProcessed(
        id="10-0",
        pts_us=7,
        epoch=1,
        runtime_us=1,
        stages_us={},
        faces=1,
        detector_ran=True,
        confidence_pm=1,
        outcome="swapped",
    )
    await bus.publish("out", EntryId(10, 0), pack(MediaHeader(pts_us=7, sent_us=0), b"x", outcome))
    fields = await unreported(Planes(bus, bus), "out", after=ZERO, epoch=4)
    assert [
        encode(VideoProcessed(**{name: getattr(outcome, name) for name in outcome.__struct_fields__} | {"epoch": 4}))
    ] == [entry[EVENT] for entry in fields]
    assert await unreported(Planes(bus, bus), "out", after=EntryId(10, 0), epoch=4) == []


def test_before_is_the_id_just_below() -> None:
    assert before(EntryId(5, 3)) == EntryId(5, 2)
    assert before(EntryId(5, 0)).successor() > before(EntryId(5, 0))
    assert before(EntryId(5, 0)) < EntryId(5, 0)
