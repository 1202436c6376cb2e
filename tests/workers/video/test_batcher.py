"""Frames of several sessions run as one batch, and nobody waits for a session that is slow, gone or at fault."""

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from schemas.media import Place
from tests.waiting import until
from workers.engine_thread import EngineThread
from workers.video.batcher import FaceBatcher
from workers.video.engine import FaceOutcome, FaceResult, FaceSession, FaceSettings, FaceTuning, Frame


class Numbered(FaceSession):
    """A session that can be told from others."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.known = FaceTuning()

    @property
    def tuning(self) -> FaceTuning:
        return self.known

    @property
    def places(self) -> tuple[Place, ...]:
        return ()

    def remember(self, places: Sequence[Place]) -> None:
        raise NotImplementedError


class Recording:
    """An engine that remembers its batches, can be held up, and fails on sessions below 0."""

    name = "recording"

    def __init__(self) -> None:
        self.batch = 8
        self.batches: list[list[int]] = []
        self.short = False
        """Whether the last job of each call is forgotten."""
        self.free = threading.Event()
        self.free.set()

    def enrol(self, portrait: Frame) -> bytes:
        raise NotImplementedError

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> FaceSession:
        raise NotImplementedError

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        numbers = [session.number for session, _, _ in jobs if isinstance(session, Numbered)]
        self.batches.append(numbers)
        assert self.free.wait(10)
        if min(numbers) < 0:
            raise RuntimeError(f"cannot work on {numbers}")
        return [
            FaceResult(frame=frame, outcome=FaceOutcome.SWAPPED, faces=1, detector_ran=False, confidence_pm=pts_us)
            for _, frame, pts_us in jobs[: len(jobs) - self.short]
        ]


FRAME = np.zeros((2, 2, 3), np.uint8)
LONG_MS = 60_000.0


@pytest.fixture
def engine() -> Recording:
    return Recording()


def batcher(engine: Recording, *, window_ms: float) -> FaceBatcher:
    return FaceBatcher(engine, EngineThread(), window_ms=window_ms)


async def test_a_session_alone_never_waits(engine: Recording) -> None:
    shared, session = batcher(engine, window_ms=LONG_MS), Numbered(1)
    for pts_us in range(3):
        assert (await shared.process(session, FRAME, pts_us)).confidence_pm == pts_us
    assert engine.batches == [[1]] * 3


async def test_active_sessions_are_waited_for_and_each_gets_its_own_result(engine: Recording) -> None:
    shared, sessions = batcher(engine, window_ms=LONG_MS), [Numbered(number) for number in range(4)]
    for _ in range(2):
        results = await asyncio.gather(*(shared.process(each, FRAME, each.number) for each in sessions))
        assert [result.confidence_pm for result in results] == [0, 1, 2, 3]
    assert engine.batches == [[0, 1, 2, 3]] * 2


async def test_a_session_that_does_not_come_holds_nobody_up_beyond_the_window(engine: Recording) -> None:
    shared, here, away = batcher(engine, window_ms=20), Numbered(1), Numbered(2)
    await asyncio.gather(shared.process(here, FRAME, 0), shared.process(away, FRAME, 0))
    assert (await shared.process(here, FRAME, 7)).confidence_pm == 7
    assert engine.batches == [[1, 2], [1]]


async def test_frames_that_arrive_while_the_engine_works_run_together_next_first_come_first_served(
    engine: Recording,
) -> None:
    engine.batch = 3
    shared = batcher(engine, window_ms=0)
    engine.free.clear()
    first = asyncio.create_task(shared.process(Numbered(0), FRAME, 0))
    await until(lambda: _true(bool(engine.batches)), within_s=5, what="engine busy")
    others = [asyncio.create_task(shared.process(Numbered(number), FRAME, 0)) for number in range(1, 6)]
    await asyncio.sleep(0)
    engine.free.set()
    await asyncio.gather(first, *others)
    assert engine.batches == [[0], [1, 2, 3], [4, 5]]


async def test_a_fault_stays_with_the_session_that_it_belongs_to(engine: Recording) -> None:
    shared = batcher(engine, window_ms=LONG_MS)
    healthy, poisoned = Numbered(1), Numbered(-1)
    good, bad = await asyncio.gather(
        shared.process(healthy, FRAME, 5), shared.process(poisoned, FRAME, 6), return_exceptions=True
    )
    assert isinstance(good, FaceResult)
    assert good.confidence_pm == 5
    assert isinstance(bad, RuntimeError)
    assert engine.batches == [[1, -1], [1], [-1]]


async def test_an_engine_that_returns_too_few_results_is_at_fault_and_leaves_nobody_waiting(engine: Recording) -> None:
    engine.short = True
    shared = batcher(engine, window_ms=0)
    results = await asyncio.wait_for(
        asyncio.gather(*(shared.process(Numbered(n), FRAME, n) for n in range(3)), return_exceptions=True), 5
    )
    assert [type(result) for result in results] == [ValueError] * 3
    engine.short = False
    assert (await shared.process(Numbered(1), FRAME, 7)).confidence_pm == 7


async def test_a_session_that_is_taken_away_while_it_waits_disturbs_nobody(engine: Recording) -> None:
    shared, gone, stays = batcher(engine, window_ms=LONG_MS), Numbered(1), Numbered(2)
    engine.free.clear()
    waiting = asyncio.create_task(shared.process(gone, FRAME, 0))
    await until(lambda: _true(bool(engine.batches)), within_s=5, what="engine busy")
    waiting.cancel()
    engine.free.set()
    second = asyncio.create_task(shared.process(gone, FRAME, 1))
    assert (await shared.process(stays, FRAME, 3)).confidence_pm == 3
    await second


async def test_a_frame_that_was_taken_away_while_it_waited_is_not_worked_on(engine: Recording) -> None:
    """Its session may be back with another: a session appears at most once in a call."""
    shared, returns = batcher(engine, window_ms=0), Numbered(1)
    engine.free.clear()
    first = asyncio.create_task(shared.process(Numbered(0), FRAME, 0))
    await until(lambda: _true(bool(engine.batches)), within_s=5, what="engine busy")
    waiting = asyncio.create_task(shared.process(returns, FRAME, 1))
    await asyncio.sleep(0)
    waiting.cancel()
    again = asyncio.create_task(shared.process(returns, FRAME, 2))
    await asyncio.sleep(0)
    engine.free.set()
    assert (await again).confidence_pm == 2
    await first
    assert engine.batches == [[0], [1]]


async def test_an_engine_that_gains_nothing_by_a_batch_is_not_waited_for(engine: Recording) -> None:
    engine.batch = 1
    shared = batcher(engine, window_ms=LONG_MS)
    await asyncio.gather(*(shared.process(Numbered(number), FRAME, 0) for number in range(3)))
    assert engine.batches == [[0], [1], [2]]


async def _true(value: bool) -> bool:  # noqa: FBT001
    return value
