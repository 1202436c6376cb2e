"""A live session without ingress, real worker processes and servers, and the count of what became of every input."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np

from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from ops.tether import command
from schemas.bus.base import Bus, Fence, Planes
from schemas.events import EVENT, MetricEvent, Outcome, WorkerTook, metric_events
from schemas.ids import EntryId, IdSource
from schemas.media import MediaHeader, pack
from schemas.names import Kind, SessionKeys, work
from schemas.session_store import SessionRecord, SessionStore

LEASE_MS = 900

COUNT_EVERY_FRAME = {
    "MIRAGE_VIDEO_ORDER": "fifo",
    "MIRAGE_VIDEO_DEADLINE_MS": "60000",
    "MIRAGE_AUDIO_DEADLINE_MS": "60000",
}
"""Settings under which no input is dropped for being old."""


@dataclass
class Worker:
    """One real worker process."""

    process: subprocess.Popen[bytes]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def workers(
    kind: Kind,
    count: int,
    urls: tuple[str, str],
    *,
    cost_ms: float,
    sessions: int,
    lease_ms: int = LEASE_MS,
    settings: Mapping[str, str] = COUNT_EVERY_FRAME,
) -> Iterator[list[Worker]]:
    """Run worker processes with pass-through engines; nothing survives the block."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")} | {
        "MIRAGE_REDIS_URL": urls[0],
        "MIRAGE_EVENTS_URL": urls[1],
        "MIRAGE_LEASE_MS": str(lease_ms),
        "MIRAGE_SESSIONS_PER_WORKER": str(sessions),
        "MIRAGE_LOG_LEVEL": "warning",
        **settings,
    }
    argv = command([sys.executable, "-m", "ops.bench.passthrough_worker", kind.value, str(cost_ms)])
    started = [Worker(subprocess.Popen(argv, env=environ)) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.wait()


@contextmanager
def servers(folder: Path, *, media_mb: int = 256) -> Iterator[tuple[EmbeddedServer, EmbeddedServer]]:
    """Run a media and an events server of the test's own, to be frozen, filled and killed."""
    pair = (
        EmbeddedServer(find_binary(None), folder / "media", ServerOptions("media", False, max_memory_mb=media_mb)),
        EmbeddedServer(find_binary(None), folder / "events", ServerOptions("events", True)),
    )
    for server in pair:
        server.start()
    try:
        yield pair
    finally:
        for server in pair:
            os.kill(server.pid, signal.SIGCONT)  # a stopped server would not hear the request to end
            server.stop()


class FailingBus:
    """A bus on which one kind of call fails, as when the server dies before or after it did what was asked."""

    def __init__(self, bus: Bus, method: str, error: Exception, *, skip: int = 0, done: bool = False) -> None:
        """Let `skip` calls of `method` pass and fail the next one; with `done`, after it took effect."""
        self._bus, self._method, self._error, self._skip, self._done = bus, method, error, skip, done
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        """Return the real bus's method, or the failing one."""
        real = getattr(self._bus, name)
        if name != self._method:
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._skip -= 1
            if self._skip != -1:
                return await real(*args, **kwargs)
            if self._done:
                await real(*args, **kwargs)
            self.failed += 1
            raise self._error

        return call


def failing(bus: Bus, method: str, error: Exception, *, skip: int = 0, done: bool = False) -> Bus:
    """Return `bus` with one call that fails; see `FailingBus`."""
    return cast("Bus", FailingBus(bus, method, error, skip=skip, done=done))


class Report(NamedTuple):
    """One outcome event that counts, and the ID that the events server gave it."""

    id: EntryId
    outcome: Outcome

    @property
    def input(self) -> EntryId:
        """ID of the input."""
        return EntryId.parse(self.outcome.id)


@dataclass
class Live:
    """A session that is being published."""

    kind: Kind
    planes: Planes
    store: SessionStore
    sid: str = field(default_factory=lambda: uuid.uuid4().hex)
    sent: list[EntryId] = field(default_factory=list)
    stopped: bool = False
    """Set to end `publish` before its time."""

    @property
    def keys(self) -> SessionKeys:
        return SessionKeys(self.sid)

    @property
    def streams(self) -> tuple[str, str]:
        keys = self.keys
        video = (keys.video_in, keys.video_out)
        return video if self.kind is Kind.VIDEO else (keys.audio_in, keys.audio_out)

    async def create(
        self, *, lives_ms: int = 600_000, consent_ms: int = 3_600_000, faces: tuple[str, ...] = ()
    ) -> None:
        now = await self.planes.events.now_ms()
        record = SessionRecord(sid=self.sid, owner="test", faces=faces, created_ms=now, expires_ms=now + consent_ms)
        await self.store.create(record, deadline_ms=now + lives_ms)

    async def publish(self, *, seconds: float, per_s: float = 20.0) -> None:
        """Publish at a steady pace, as ingress does."""
        epoch = await self.planes.media.raise_epoch(self.keys.epoch, Kind.PUBLISH)
        fence = Fence(self.keys.epoch, Kind.PUBLISH, epoch)
        loop = asyncio.get_running_loop()
        start = loop.time()
        now_ms = await self.planes.media.now_ms()
        ids = IdSource(EntryId(0, 0), lambda: now_ms + int((loop.time() - start) * 1000))
        for n in range(int(seconds * per_s)):
            await asyncio.sleep(max(0.0, start + n / per_s - loop.time()))
            if self.stopped:
                return
            header = MediaHeader(pts_us=int(n * 1_000_000 / per_s), sent_us=0)
            entry_id = ids.take()
            await self.planes.media.publish(
                self.streams[0], entry_id, pack(header, payload(self.kind, n)), fence=fence, keep_ms=60_000
            )
            self.sent.append(entry_id)

    async def settled(self) -> bool:
        """Return whether every input has an outcome that counts."""
        return set(await self.outcomes()) >= set(self.sent)

    async def metrics(self) -> list[tuple[EntryId, MetricEvent]]:
        """Return the session's metric events."""
        found = await self.planes.events.entries(self.keys.metrics)
        return [(entry.id, metric_events.decode(entry.fields[EVENT])) for entry in found]

    async def reports(self) -> list[Report]:
        """Return outcomes as policy counts them: not those of an epoch that was over."""
        counted: list[Report] = []
        epoch = 0
        for entry_id, event in await self.metrics():
            if isinstance(event, WorkerTook) and event.kind == self.kind:
                epoch = max(epoch, event.epoch)
            elif isinstance(event, Outcome) and event.epoch >= epoch:
                counted.append(Report(entry_id, event))
        return counted

    async def outcomes(self) -> Counter[EntryId]:
        """Count outcomes by input ID."""
        return Counter(report.input for report in await self.reports())

    async def owners(self) -> list[WorkerTook]:
        """Return who took the session, in order."""
        return [event for _, event in await self.metrics() if isinstance(event, WorkerTook) and event.kind == self.kind]

    async def took(self) -> list[str]:
        """Return the owners' names, in order."""
        return [owner.worker for owner in await self.owners()]

    async def outputs(self) -> list[EntryId]:
        """Return the IDs of the outputs."""
        return [entry.id for entry in await self.planes.media.entries(self.streams[1])]

    async def published(self, count: int) -> bool:
        """Return whether there are `count` outputs."""
        return await self.planes.media.length(self.streams[1]) >= count

    async def retired(self) -> bool:
        """Return whether nobody is asked to work on the session any more."""
        waiting = await self.planes.events.entries(work(self.kind))
        return all(entry.fields[b"sid"] != self.sid.encode() for entry in waiting)

    async def assert_one_outcome_each(self, *, beside: Collection[EntryId] = ()) -> None:
        """Every input has exactly one outcome, and nothing else has one but `beside`."""
        counted = await self.outcomes()
        assert {entry_id: n for entry_id, n in counted.items() if n != 1} == {}, "more than one outcome"
        assert set(counted) - set(beside) == set(self.sent), "missing or invented outcomes"

    async def assert_nothing_lost_doubled_or_reordered(self, *, beside: Collection[EntryId] = ()) -> None:
        """Every input has exactly one outcome; outputs are each input once, in order."""
        await self.assert_one_outcome_each(beside=beside)
        assert await self.outputs() == self.sent, "missing, doubled or reordered outputs"


def everyone(lives: Collection[Live], holds: Callable[[Live], Awaitable[bool]]) -> Callable[[], Awaitable[bool]]:
    """Return the condition that `holds` for every one of `lives`."""

    async def condition() -> bool:
        return all([await holds(live) for live in lives])

    return condition


def payload(kind: Kind, n: int) -> bytes:
    """Return a small real frame, or a real chunk."""
    if kind is Kind.VOICE:
        return np.full(1536, n, "<i2").tobytes()
    frame = np.full((48, 64, 3), n % 256, np.uint8)
    return bytes(cv2.imencode(".jpg", frame)[1].tobytes())
