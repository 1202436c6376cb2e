"""One session's streams on a bus, and the media tasks that work on them, for tests of what is around the engines."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ops.bench.passthrough import PassthroughConverter
from schemas.bus.base import Bus, Entry, Fence, Planes
from schemas.clock import Clock, SystemClock
from schemas.events import (
    EVENT,
    AudioSkipped,
    MetricEvent,
    Outcome,
    VideoDropped,
    WorkerTook,
    metric_events,
)
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader, pack
from schemas.message import Message, encode
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from tests.waiting import until
from workers.engine_thread import EngineThread
from workers.freshness import Limits, Order
from workers.media_task import Converted, MediaTask

FIFO, NEWEST = Limits(Order.FIFO, 60_000), Limits(Order.NEWEST, 60_000)


class Converter(PassthroughConverter):
    """Passes inputs through, and calls `during` in the middle of each."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease, thread=EngineThread(), cost_s=0)
        self.worked_on: list[int] = []
        self.during: Callable[[int], Awaitable[None]] | None = None

    async def convert(self, entry: MediaEntry) -> Converted:
        self.worked_on.append(entry.id.ms)
        if self.during is not None:
            await self.during(entry.id.ms)
        return await super().convert(entry)


@dataclass
class Stage:
    """One session's streams, and the tasks that work on them one after the other."""

    bus: Bus
    kind: Kind = Kind.VIDEO
    keys: SessionKeys = field(default_factory=lambda: SessionKeys(uuid.uuid4().hex))
    tasks: list[MediaTask] = field(default_factory=list)
    clock: Clock = field(default_factory=SystemClock)

    async def task(
        self, *, events: Bus | None = None, limits: Limits = FIFO, engine: object = None
    ) -> tuple[MediaTask, Converter]:
        """Return the next owner's task, as the runner makes it."""
        epoch = await self.bus.raise_epoch(self.keys.epoch, self.kind)
        took = WorkerTook(kind=self.kind, worker=f"w{epoch}", epoch=epoch)
        await self.bus.append(self.keys.metrics, {EVENT: encode(took)})
        record = SessionRecord(sid=self.keys.sid, owner="o", created_ms=0, expires_ms=1)
        fence = Fence(self.keys.epoch, self.kind, epoch)
        planes = Planes(self.bus, events or self.bus)
        lease = Lease(self.kind, self.keys, record, took.worker, fence, planes, self.clock)
        converter = Converter(lease)
        self.tasks.append(MediaTask(lease, converter, limits=limits, retention_ms=60_000, engine=engine))
        return self.tasks[-1], converter

    async def frames(self, *ms: int) -> list[Entry]:
        """Put inputs on the input stream, their media time as in the ID, and return them as the runner reads them."""
        found = []
        stream = self.keys.video_in if self.kind is Kind.VIDEO else self.keys.audio_in
        for n in ms:
            fields = pack(MediaHeader(pts_us=n * 1000, sent_us=0), b"frame %d" % n)
            await self.bus.publish(stream, EntryId(n, 0), fields)
            found.append(Entry(EntryId(n, 0), fields))
        return found

    async def reports(self) -> list[tuple[int, str, int]]:
        """Return (input, what became of it, epoch), in the order of the reports."""
        return [
            (
                EntryId.parse(event.id).ms,
                event.reason if isinstance(event, VideoDropped | AudioSkipped) else "published",
                event.epoch,
            )
            for event in await self.metrics()
            if isinstance(event, Outcome)
        ]

    async def metrics(self) -> list[MetricEvent]:
        """Return the session's metric events."""
        return [metric_events.decode(found.fields[EVENT]) for found in await self.bus.entries(self.keys.metrics)]

    async def order(self, decision: Message | bytes) -> None:
        """Append a decision, and wait until the newest task's watch has read it."""
        data = decision if isinstance(decision, bytes) else encode(decision)
        entry_id = await self.bus.append(self.keys.policy, {EVENT: data})
        watch = self.tasks[-1]._watch

        async def read() -> bool:
            return watch._cursors[self.keys.policy] >= entry_id

        await until(read, within_s=3, what="the watch reads the decision")

    async def became(self) -> list[tuple[int, str]]:
        """Return (input, what became of it)."""
        return [(ms, what) for ms, what, _ in await self.reports()]

    async def outputs(self) -> list[int]:
        """Return the IDs of the outputs, in milliseconds."""
        stream = self.keys.video_out if self.kind is Kind.VIDEO else self.keys.audio_out
        return [entry.id.ms for entry in await self.bus.entries(stream)]


@asynccontextmanager
async def staged(bus: Bus) -> AsyncIterator[Stage]:
    """Return a session on `bus`; whatever tasks it had are closed in the end."""
    stage = Stage(bus)
    try:
        yield stage
    finally:
        for task in stage.tasks:
            await task.close()
        await bus.close()
