"""A live session without ingress, real worker processes, and the count of what became of every input."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np

from ops.tether import command
from schemas.bus.base import Fence, Planes
from schemas.events import EVENT, Outcome, WorkerTook, metric_events
from schemas.ids import EntryId, IdSource
from schemas.media import MediaHeader, pack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord, SessionStore

LEASE_MS = 900


@dataclass
class Worker:
    """One real worker process."""

    process: subprocess.Popen[bytes]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def workers(kind: Kind, count: int, urls: tuple[str, str], *, cost_ms: float, sessions: int) -> Iterator[list[Worker]]:
    """Run worker processes with pass-through engines; nothing survives the block."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")} | {
        "MIRAGE_REDIS_URL": urls[0],
        "MIRAGE_EVENTS_URL": urls[1],
        "MIRAGE_LEASE_MS": str(LEASE_MS),
        "MIRAGE_VIDEO_ORDER": "fifo",
        "MIRAGE_VIDEO_DEADLINE_MS": "60000",
        "MIRAGE_AUDIO_DEADLINE_MS": "60000",
        "MIRAGE_SESSIONS_PER_WORKER": str(sessions),
        "MIRAGE_LOG_LEVEL": "warning",
    }
    argv = command([sys.executable, "-m", "ops.bench.passthrough_worker", kind.value, str(cost_ms)])
    started = [Worker(subprocess.Popen(argv, env=environ)) for _ in range(count)]
    try:
        yield started
    finally:
        for worker in started:
            worker.process.kill()
            worker.process.wait()


@dataclass
class Live:
    """A session that is being published."""

    kind: Kind
    planes: Planes
    store: SessionStore
    sid: str = field(default_factory=lambda: uuid.uuid4().hex)
    sent: list[EntryId] = field(default_factory=list)

    @property
    def keys(self) -> SessionKeys:
        return SessionKeys(self.sid)

    @property
    def streams(self) -> tuple[str, str]:
        keys = self.keys
        video = (keys.video_in, keys.video_out)
        return video if self.kind is Kind.VIDEO else (keys.audio_in, keys.audio_out)

    async def create(self) -> None:
        now = await self.planes.events.now_ms()
        record = SessionRecord(sid=self.sid, owner="test", created_ms=now, expires_ms=now + 3_600_000)
        await self.store.create(record, deadline_ms=now + 600_000)

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
            header = MediaHeader(pts_us=int(n * 1_000_000 / per_s), sent_us=0)
            entry_id = ids.take()
            await self.planes.media.publish(
                self.streams[0], entry_id, pack(header, payload(self.kind, n)), fence=fence, keep_ms=60_000
            )
            self.sent.append(entry_id)

    async def settled(self) -> bool:
        """Return whether every input has an outcome that counts."""
        return len(await self.outcomes()) >= len(self.sent)

    async def outcomes(self) -> Counter[EntryId]:
        """Count outcomes by input ID, as policy counts them: not those of an epoch that was over."""
        counted: Counter[EntryId] = Counter()
        epoch = 0
        for entry in await self.planes.events.entries(self.keys.metrics):
            event = metric_events.decode(entry.fields[EVENT])
            if isinstance(event, WorkerTook) and event.kind == self.kind:
                epoch = max(epoch, event.epoch)
            elif isinstance(event, Outcome) and event.epoch >= epoch:
                counted[EntryId.parse(event.id)] += 1
        return counted

    async def took(self) -> list[str]:
        """Return the owners, in order."""
        events = [
            metric_events.decode(entry.fields[EVENT]) for entry in await self.planes.events.entries(self.keys.metrics)
        ]
        return [event.worker for event in events if isinstance(event, WorkerTook) and event.kind == self.kind]

    async def assert_nothing_lost_doubled_or_reordered(self) -> None:
        """Every input has exactly one outcome; outputs are each input once, in order."""
        counted = await self.outcomes()
        assert {entry_id: n for entry_id, n in counted.items() if n != 1} == {}, "more than one outcome"
        assert set(counted) == set(self.sent), "missing or invented outcomes"
        outputs = [entry.id for entry in await self.planes.media.entries(self.streams[1])]
        assert outputs == self.sent, "missing, doubled or reordered outputs"


def payload(kind: Kind, n: int) -> bytes:
    """Return a small real frame, or a real chunk."""
    if kind is Kind.VOICE:
        return np.full(1536, n, "<i2").tobytes()
    frame = np.full((48, 64, 3), n % 256, np.uint8)
    return bytes(cv2.imencode(".jpg", frame)[1].tobytes())
