"""What media tasks report beside outcomes: what it says, how often, and in whose name."""

import itertools
from dataclasses import astuple, dataclass

import msgspec
import pytest

from schemas.events import (
    Acceptance,
    AudioProcessed,
    Backlog,
    Detections,
    Gpu,
    Outcome,
    Report,
    VideoProcessed,
    metric_events,
)
from schemas.ids import EntryId
from schemas.message import encode
from schemas.names import Kind
from tests.workers.stage import Stage
from workers.reports import GpuFigures, beyond
from workers.tallies import AcceptanceTally, DetectorTally


@dataclass
class SteppedClock:
    """A clock that stands until it is moved."""

    us: int = 1_000_000

    def now_ms(self) -> int:
        return self.us // 1000

    def monotonic_us(self) -> int:
        return self.us


@dataclass
class Card:
    """An engine that knows its memory."""

    figures: GpuFigures | None

    def memory(self) -> GpuFigures | None:
        return self.figures


async def said(stage: Stage) -> list[Report]:
    return [event for event in await stage.metrics() if isinstance(event, Report)]


async def fed(stage: Stage, clock: SteppedClock, *, seconds: int, engine: object = None) -> None:
    """Feed a new task 20 inputs a second, one a read."""
    stage.clock = clock
    task, _ = await stage.task(engine=engine)
    await task.resume()
    start_us = clock.us
    for ms in range(clock.us // 1000, clock.us // 1000 + seconds * 1000, 50):
        clock.us = ms * 1000
        await task.handle(await stage.frames(ms))
    clock.us = start_us + seconds * 1_000_000


async def test_a_worker_reports_in_its_own_name_with_numbers_that_rise_by_one(stage: Stage) -> None:
    clock = SteppedClock()
    for _ in range(2):
        await fed(stage, clock, seconds=3)
    by_producer = {name: list(found) for name, found in itertools.groupby(await said(stage), lambda one: one.producer)}
    assert len(by_producer) == 2
    for producer, found in by_producer.items():
        assert stage.keys.sid in producer
        assert [one.seq for one in found] == list(range(1, len(found) + 1))


async def test_every_report_has_its_rate(stage: Stage) -> None:
    """Over 12 s: a backlog each second, detections each 5 s of media, memory once, for there is no GPU."""
    await fed(stage, SteppedClock(), seconds=12)
    counts = {kind: sum(isinstance(one, kind) for one in await said(stage)) for kind in (Backlog, Detections, Gpu)}
    assert counts == {Backlog: 12, Detections: 2, Gpu: 1}
    assert [(one.frames, one.runs) for one in await said(stage) if isinstance(one, Detections)] == [(101, 0), (100, 0)]


async def test_reports_come_with_an_outcome_and_after_it(stage: Stage) -> None:
    """All but the first: it says that the task begins."""
    await fed(stage, SteppedClock(), seconds=6)
    events = await stage.metrics()
    first = next(n for n, event in enumerate(events) if isinstance(event, Outcome))
    assert isinstance(events[first - 1], Gpu)
    assert isinstance(events[first + 1], Backlog)
    assert not any(isinstance(event, Report) for event in events[: first - 1])


async def test_sound_reports_how_many_chunks_were_fast_enough(stage: Stage) -> None:
    stage.kind = Kind.VOICE
    await fed(stage, SteppedClock(), seconds=12)
    found = await said(stage)
    assert [(one.chunks, one.accepted) for one in found if isinstance(one, Acceptance)] == [(101, 101), (100, 100)]
    assert {one.audio is None for one in found if isinstance(one, Backlog)} == {False}


@pytest.mark.parametrize("figures", [GpuFigures(5, -2, 9, 30), GpuFigures(None, None, 9, 30), None])
async def test_memory_is_reported_on_opening_and_every_ten_seconds_where_there_are_figures(
    stage: Stage, figures: GpuFigures | None
) -> None:
    await fed(stage, SteppedClock(), seconds=21, engine=Card(figures))
    found = [one for one in await said(stage) if isinstance(one, Gpu)]
    assert len(found) == (1 if figures is None else 3)
    assert {one.kind for one in found} == {"video"}
    expected = (None, None, None, None) if figures is None else astuple(figures)
    assert {(one.held, one.grown, one.used, one.total) for one in found} == {expected}
    assert all(metric_events.decode(encode(one)) == one for one in found)


def test_memory_in_recordings_of_older_builds_is_absent() -> None:
    """They had other fields, which nothing filled."""
    fields = {"t": "gpu", "v": 1, "producer": "w", "seq": 1, "kind": "video"}
    old = fields | {"allocated": None, "reserved": None, "largest_free": None}
    assert metric_events.decode(msgspec.msgpack.encode(old)) == Gpu(producer="w", seq=1, kind="video")


async def test_the_backlog_is_what_waits_behind_the_input_in_hand(stage: Stage) -> None:
    stage.clock = clock = SteppedClock()
    task, converter = await stage.task()
    await task.resume()

    async def a_second_each(_: int) -> None:
        clock.us += 1_000_000

    converter.during = a_second_each
    await task.handle(await stage.frames(10, 20, 30, 40))
    assert [one.video for one in await said(stage) if isinstance(one, Backlog)] == [3, 2, 1, 0]


async def test_a_backlog_longer_than_a_read_counts_what_lies_beyond_it(stage: Stage) -> None:
    stage.clock = SteppedClock()
    task, _ = await stage.task()
    await task.resume()
    waiting = await stage.frames(*range(1000, 6000, 50))
    await task.handle(waiting[:32])
    assert [one.video for one in await said(stage) if isinstance(one, Backlog)] == [99]


def test_what_lies_beyond_is_estimated_at_the_pace_of_what_was_read() -> None:
    ids = [EntryId(ms, 0) for ms in (100, 150, 200)]
    assert beyond(ids, 200) == 0
    assert beyond(ids, 400) == 4
    assert beyond(ids[:1], 400) == 0
    assert beyond([EntryId(5, 0), EntryId(5, 1)], 400) == 0


def frame(n: int, *, ran: bool, confidence_pm: int) -> VideoProcessed:
    return VideoProcessed(
        id=f"{n}-0",
        pts_us=n * 50_000,
        epoch=1,
        runtime_us=1,
        stages_us={},
        faces=1,
        detector_ran=ran,
        confidence_pm=confidence_pm,
        outcome="swapped",
    )


def test_early_runs_are_those_that_a_low_confidence_brought_forward() -> None:
    """Runs on every fifth frame, and two more: one after a low confidence, one for another reason."""
    tally = DetectorTally()
    found = []
    for n in range(101):
        ran = n % 5 == 0 or n in (42, 63)
        found.append(tally.after(frame(n, ran=ran, confidence_pm=699 if n == 41 else 700)))
    assert found[:-1] == [None] * 100
    assert found[-1] == {"frames": 101, "runs": 23, "early": 1, "shortest": 2, "longest": 5}


def test_intervals_reach_over_the_end_of_a_window() -> None:
    tally = DetectorTally()
    found = [tally.after(frame(n, ran=n in (98, 103), confidence_pm=900)) for n in range(201)]
    counts = [counts for counts in found if counts]
    assert [(one["runs"], one["shortest"], one["longest"]) for one in counts] == [(1, 0, 0), (1, 5, 5)]


def chunk(n: int, *, runtime_us: int, outcome: str = "converted") -> AudioProcessed:
    return AudioProcessed(
        id=f"{n}-0",
        pts_us=n * 100_000,
        epoch=1,
        duration_us=100_000,
        runtime_us=runtime_us,
        stages_us={},
        outcome=outcome,
    )


def test_a_chunk_is_accepted_below_the_bound_and_only_converted_ones_count() -> None:
    tally = AcceptanceTally(650)
    chunks = [chunk(n, runtime_us=64_999 if n % 2 else 65_000) for n in range(50)]
    found = [tally.after(one) for one in [*chunks, chunk(50, runtime_us=1, outcome="gated")]]
    assert found[:-1] == [None] * 50
    assert found[-1] == {"chunks": 50, "accepted": 25}
    silent = [tally.after(chunk(n, runtime_us=1, outcome="silenced")) for n in range(51, 200)]
    assert not any(silent), "nothing was converted, nothing is said"
