"""How long frames of 1, 4 and 16 sessions take through the batcher, on an engine that costs what a GPU's would.

The engine is a stand-in: it sleeps a fixed time a call and a smaller one a face. What is measured is the batcher: what
sharing costs, how even it is, how many sessions one engine carries, and what three sessions feel of a fourth whose
frames are slow now and then, as CodeFormer's are.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schemas.media import Place
from workers.engine_thread import EngineThread
from workers.video.batcher import FaceBatcher
from workers.video.engine import FaceOutcome, FaceResult, FaceSession, FaceSettings, FaceTuning, Frame

CALL_MS, FACE_MS, SLOW_MS, SLOW_EVERY = 6.0, 0.8, 40.0, 4
_FPS, _SECONDS, _WARM_UP_FRAMES = 20, 5, 10


class PacedSession:
    """Remembers how many of its frames came."""

    def __init__(self) -> None:
        """Start as every session does."""
        self.slow = False
        self.frames = 0
        self.tuning = FaceTuning()
        self.places: tuple[Place, ...] = ()

    def remember(self, places: Sequence[Place]) -> None:
        """Remember nothing."""

    def due(self) -> bool:
        """Count a frame; say whether it is a slow one."""
        self.frames += 1
        return self.slow and self.frames % SLOW_EVERY == 0


class PacedEngine:
    """Implements `FaceEngine`: does nothing, for as long as it would take."""

    name = "paced"

    def __init__(self, batch: int) -> None:
        """Take at most `batch` frames a call."""
        self.batch = batch

    def enrol(self, portrait: Frame) -> bytes:
        """Return an empty template."""
        del portrait
        return b""

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> PacedSession:
        """Return an empty session."""
        del settings, worn
        return PacedSession()

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        """Take `CALL_MS`, `FACE_MS` for each job, and `SLOW_MS` for each that is slow this time."""
        slow = sum(session.due() for session, _, _ in jobs if isinstance(session, PacedSession))
        time.sleep((CALL_MS + FACE_MS * len(jobs) + SLOW_MS * slow) / 1000)
        return [
            FaceResult(frame, FaceOutcome.SWAPPED, 1, detector_ran=False, confidence_pm=1000) for _, frame, _ in jobs
        ]


@dataclass(frozen=True, slots=True)
class Shared:
    """Latency of a frame in ms, over all sessions."""

    sessions: int
    p50_ms: float
    p95_ms: float
    unevenness: float
    """Mean latency of the worst-served session over that of the best-served."""


async def share(sessions: int, *, window_ms: float, most: int, one_is_slow: bool = False) -> Shared:
    """Run `sessions` sessions of 20 frames a second, started apart; frames that are late do not wait for each other.

    The first may be the slow one; the figures are of the others then.
    """
    engine, thread = PacedEngine(most), EngineThread()
    batcher = FaceBatcher(engine, thread, window_ms=window_ms)
    frame = np.zeros((2, 2, 3), np.uint8)

    async def stream(number: int) -> list[float]:
        session = engine.open(FaceSettings(), [])
        session.slow = one_is_slow and number == 0
        await asyncio.sleep(number / sessions / _FPS)
        loop = asyncio.get_running_loop()
        began_s, took_ms = loop.time(), []
        for index in range(_FPS * _SECONDS):
            await asyncio.sleep(max(0.0, began_s + index / _FPS - loop.time()))
            arrived_s = began_s + index / _FPS
            await batcher.process(session, frame, index * 50_000)
            took_ms.append((loop.time() - arrived_s) * 1000)
        return took_ms[_WARM_UP_FRAMES:]

    taken = await asyncio.gather(*(stream(number) for number in range(sessions)))
    thread.close()
    taken = taken[1:] if one_is_slow else taken
    means = [statistics.fmean(each) for each in taken]
    everything = sorted(value for each in taken for value in each)
    return Shared(
        sessions,
        statistics.median(everything),
        everything[int(0.95 * len(everything))],
        max(means) / min(means),
    )


def measure_batching(window_ms: float = 4.0, most: int = 8) -> dict[str, list[Shared]]:
    """Return the figures with batching and without, for 1, 4 and 16 sessions."""

    async def run(window_ms: float, most: int) -> list[Shared]:
        return [await share(sessions, window_ms=window_ms, most=most) for sessions in (1, 4, 16)]

    beside = asyncio.run(share(4, window_ms=window_ms, most=most, one_is_slow=True))
    return {
        "batched": asyncio.run(run(window_ms, most)),
        "one_by_one": asyncio.run(run(0.0, 1)),
        "beside_a_slow_one": [beside],
    }
