"""A recorded session on real servers, and real recorder processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ops.archive.file import archive_path
from ops.archive.live import stream_key
from ops.tether import command
from schemas.bus.base import Entry, Planes
from schemas.decisions import DropVideoUntil, decision_id
from schemas.events import EVENT, ArchiveStatus, AudioProcessed, VideoProcessed, metric_events
from schemas.facts import PanicSet
from schemas.ids import EntryId
from schemas.media import MediaHeader, pack
from schemas.message import encode
from schemas.names import SessionKeys
from schemas.session_store import WORK, SessionRecord, SessionStore

LEASE_MS = 300


@dataclass
class Stage:
    """One session, with somebody who publishes, converts and decides."""

    planes: Planes
    folder: Path
    keep_ms: int = 120_000
    frame_bytes: int = 4_000
    faces: tuple[str, ...] = ()
    sid: str = field(default_factory=lambda: uuid.uuid4().hex)
    media_entries: int = 0
    frames: int = 0
    stopped: bool = False

    @property
    def keys(self) -> SessionKeys:
        return SessionKeys(self.sid)

    @property
    def path(self) -> Path:
        return archive_path(self.folder, self.sid)

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    async def create(self) -> None:
        now = await self.planes.events.now_ms()
        record = SessionRecord(
            sid=self.sid, owner="test", faces=self.faces, created_ms=now, expires_ms=now + 3_600_000, record=True
        )
        await SessionStore(self.planes).create(record, deadline_ms=now + 600_000)

    async def publish(self, frames: int, *, per_s: float = 200.0) -> None:
        """Publish that many frames, each converted at once; sound, decisions and facts now and then."""
        header = MediaHeader(pts_us=0, sent_us=0)
        for _ in range(frames):
            if self.stopped:
                return
            n = self.frames = self.frames + 1
            entry_id = EntryId(await self.planes.media.now_ms(), n)
            data = os.urandom(self.frame_bytes)
            done = VideoProcessed(
                id=str(entry_id), pts_us=n, epoch=1, runtime_us=9, stages_us={}, faces=1,
                detector_ran=False, confidence_pm=900, outcome="swapped",
            )  # fmt: skip
            await self._media("video:in", entry_id, pack(header, data))
            await self._media("video:out", entry_id, pack(header, data[::-1], done))
            cause = await self.planes.events.append(self.keys.metrics, {EVENT: encode(done)})
            if n % 5 == 0:
                heard = AudioProcessed(
                    id=str(entry_id), pts_us=n, epoch=1, duration_us=1, runtime_us=1, stages_us={}, outcome="gated"
                )
                await self._media("audio:in", entry_id, pack(header, data[:600]))
                await self._media("audio:out", entry_id, pack(header, data[:600], heard))
                await self.planes.events.append(self.keys.metrics, {EVENT: encode(heard)})
                floor = DropVideoUntil(cause=str(cause), rule="floor", floor_us=n)
                await self.planes.events.publish(self.keys.policy, decision_id(cause, 0), {EVENT: encode(floor)})
                await self.planes.events.append(self.keys.control, {EVENT: encode(PanicSet(on=n % 2 == 0))})
            await asyncio.sleep(1 / per_s)

    async def _media(self, stream: str, entry_id: EntryId, fields: dict[bytes, bytes]) -> None:
        await self.planes.media.publish(stream_key(self.keys, stream), entry_id, fields, keep_ms=self.keep_ms)
        self.media_entries += 1

    async def end(self) -> None:
        """End the session; its other workers let go of it at once. Streams are kept long enough to compare."""
        await SessionStore(self.planes, media_retention_s=300).end(self.sid, "over")
        for kind in WORK:
            while (claimed := await self.planes.events.claim(kind, "test")) is not None:
                await self.planes.events.retire(kind, "test", claimed.id)

    async def statuses(self) -> list[ArchiveStatus]:
        events = [metric_events.decode(entry.fields[EVENT]) for entry in await self._metrics()]
        return [event for event in events if isinstance(event, ArchiveStatus)]

    async def _metrics(self) -> list[Entry]:
        return await self.planes.events.entries(self.keys.metrics)

    async def said(self, state: str) -> bool:
        """Return whether the last report of the recording says `state`."""
        statuses = await self.statuses()
        return bool(statuses) and statuses[-1].state == state

    async def indexed(self) -> bool:
        return self.path.exists() and self.path.read_bytes().endswith(b"\x89MCAP0\r\n")

    async def grown(self, size: int) -> bool:
        return self.size > size


def environment(urls: tuple[str, str], folder: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    return clean | {
        "MIRAGE_REDIS_URL": urls[0],
        "MIRAGE_EVENTS_URL": urls[1],
        "MIRAGE_ARCHIVE_DIR": str(folder),
        "MIRAGE_LEASE_MS": str(LEASE_MS),
        "MIRAGE_MEDIA_RETENTION_S": "300",
        "MIRAGE_LOG_LEVEL": "warning",
        **more,
    }


@contextmanager
def recorder(urls: tuple[str, str], folder: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `mirage worker record`; it does not survive the block."""
    argv = command([sys.executable, "-m", "ops.cli", "worker", "record"])
    process = subprocess.Popen(argv, env=environment(urls, folder, **more))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def mirage(urls: tuple[str, str], folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "ops.cli", *arguments]
    return subprocess.run(argv, env=environment(urls, folder), capture_output=True, text=True, timeout=60, check=False)


def report(done: "subprocess.CompletedProcess[str]") -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found
