"""Runs frames of several sessions as one batch: one call to the GPU for all of them, in place of one each.

| the engine is | and | a frame that arrives |
|---|---|---|
| idle | no other session is active | runs at once |
| idle | others are active | waits for them, at most the window counted from the first frame |
| busy | | joins the next batch, first come, first served |

A batch that fails is run again frame by frame, so that a fault stays with the session that it belongs to.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from workers.engine_thread import EngineThread
from workers.video.engine import FaceEngine, FaceResult, FaceSession, Frame

_ACTIVE_S = 0.5  # a session that sent nothing for this long is not waited for


@dataclass(slots=True, eq=False)
class _Job:
    session: FaceSession
    frame: Frame
    pts_us: int
    arrived_s: float
    done: asyncio.Future[FaceResult]


class FaceBatcher:
    """Shares one engine among the sessions of a worker. Used from one event loop."""

    def __init__(self, engine: FaceEngine, thread: EngineThread, *, window_ms: float) -> None:
        """Wait at most `window_ms` for the engine's batch; an engine that gains nothing by one is not waited for."""
        self.engine, self.thread = engine, thread
        self._most = engine.batch
        self._window_s = window_ms / 1000 if self._most > 1 else 0.0
        self._waiting: list[_Job] = []
        self._seen_s: dict[int, float] = {}
        self._arrived = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def process(self, session: FaceSession, frame: Frame, pts_us: int) -> FaceResult:
        """Return what `FaceEngine.process` makes of one frame. A session has one frame under way at a time."""
        loop = asyncio.get_running_loop()
        job = _Job(session, frame, pts_us, loop.time(), loop.create_future())
        self._waiting.append(job)
        self._seen_s[id(session)] = job.arrived_s
        self._arrived.set()
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._work(), name="batcher")
        return await job.done

    async def _work(self) -> None:
        while self._waiting:
            await self._gather()
            # Who was taken away while waiting may have come back: a session appears at most once in a call.
            wanted = [job for job in self._waiting if not job.done.done()]
            batch, self._waiting = wanted[: self._most], wanted[self._most :]
            if batch:
                await self._run(batch)

    async def _gather(self) -> None:
        """Wait until every active session is in, the batch is full, or the first frame has waited for the window."""
        loop = asyncio.get_running_loop()
        due_s = self._waiting[0].arrived_s + self._window_s
        while len(self._waiting) < min(self._most, self._active(loop.time())):
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(due_s):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _active(self, now_s: float) -> int:
        self._seen_s = {key: seen_s for key, seen_s in self._seen_s.items() if now_s - seen_s < _ACTIVE_S}
        return len(self._seen_s)

    async def _run(self, batch: Sequence[_Job]) -> None:
        try:
            results = await self.thread.run(
                self.engine.process, [(job.session, job.frame, job.pts_us) for job in batch]
            )
            done = list(zip(batch, results, strict=True))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is handed to the session that it belongs to
            if len(batch) > 1:
                for job in batch:
                    await self._run([job])
            elif not batch[0].done.done():
                batch[0].done.set_exception(error)
            return
        for job, result in done:
            if not job.done.done():  # its session may have been taken away meanwhile
                job.done.set_result(result)
