"""Sessions with a real policy service on real streams, and the command line as a user runs it."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ops.archive.file import ArchiveFile
from ops.archive.layout import About
from ops.archive.model import EVENT_STREAMS, STREAMS, RecordedSession
from ops.bench.synthetic import START_MS, SyntheticSession
from ops.settings import Settings
from ops.wiring import runner, session_store
from policy.task import PolicyTask
from schemas.bus.base import Entry, Planes
from schemas.events import EVENT
from schemas.ids import ZERO, EntryId
from schemas.media import MediaHeader, pack
from schemas.names import Kind, SessionKeys, work
from schemas.session_store import SessionRecord, SessionStore
from tests.ops.archive.sessions import append, in_order
from tests.waiting import until

BUSY_S = 75
"""A synthetic session of this length has a burst of load at its end, and decisions with it."""


@dataclass(frozen=True)
class Command:
    """`mirage …` as a process."""

    server_urls: tuple[str, str]
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
        media, events = self.server_urls
        return clean | {
            "MIRAGE_REDIS_URL": media,
            "MIRAGE_EVENTS_URL": events,
            "MIRAGE_DATA_DIR": str(self.folder / "data"),
            "NO_COLOR": "1",
            "COLUMNS": "160",
        }

    def __call__(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end."""
        return subprocess.run(
            [sys.executable, "-m", "ops.cli", *arguments],
            env=self.environ | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> tuple[int, Any]:
        """Run it with `--json`; returns the exit code and what it printed."""
        done = self(*arguments, "--json")
        return done.returncode, json.loads(done.stdout)

    def started(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start it and let it run."""
        return subprocess.Popen(
            [sys.executable, "-m", "ops.cli", *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@asynccontextmanager
async def policy_service(planes: Planes) -> AsyncIterator[None]:
    """Run the policy service."""
    stop = asyncio.Event()
    store = session_store(planes, Settings())
    service = runner(Kind.POLICY, planes, Settings(), lambda lease: PolicyTask(lease, store))
    running = asyncio.create_task(service.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running


async def begin(planes: Planes, *, seconds: int = BUSY_S) -> str:
    """Create a session and write its metrics, as far as they go; returns its ID."""
    sid, now_ms = uuid.uuid4().hex, await planes.events.now_ms()
    record = SessionRecord(sid=sid, owner="test", created_ms=now_ms, expires_ms=now_ms + 3_600_000)
    await SessionStore(planes).create(record, deadline_ms=now_ms + 3_600_000)
    for entry in SyntheticSession(seconds).metrics:
        if any(tag in entry.fields[EVENT] for tag in (b"session_started", b"session_ended")):
            continue  # the store writes them
        entry_id = EntryId(entry.id.ms - START_MS + now_ms + 1000, entry.id.n)
        await planes.events.publish(SessionKeys(sid).metrics, entry_id, entry.fields)
    return sid


async def finished(planes: Planes, sid: str) -> None:
    """End the session and wait until the policy service has folded it to its end."""
    await SessionStore(planes).end(sid, "ended by its owner")

    async def retired() -> bool:
        return await planes.events.length(work(Kind.POLICY)) == 0

    await until(retired, within_s=30, what="policy folds the session to its end")


@dataclass
class Told:
    """A session made of given entries; implements `RecordedSession`."""

    found: Mapping[str, Sequence[Entry]]
    sid: str = "told"
    record: SessionRecord | None = None
    problems: tuple[str, ...] = field(default=())

    def entries(self, stream: str, *, after: EntryId = ZERO) -> Iterator[Entry]:
        return (entry for entry in self.found.get(stream, ()) if entry.id > after)


def archived(path: Path, session: RecordedSession, **replaced: Sequence[Entry]) -> Path:
    """Write a session as an archive, some of its streams replaced."""
    found = {stream: list(session.entries(stream)) for stream in STREAMS}
    found |= {name.replace("_", ":"): list(entries) for name, entries in replaced.items()}
    kept = STREAMS if found["video:in"] else EVENT_STREAMS
    file = ArchiveFile.open(path, About(session.sid, session.record, tuple(kept)))
    append(file, in_order(found))
    file.finish()
    file.close()
    return path


def tampered(entries: Sequence[Entry], number: int) -> list[Entry]:
    """Return decisions of which one says something else in its last byte."""
    changed = list(entries)
    data = bytearray(changed[number].fields[EVENT])
    data[-1] ^= 1
    changed[number] = Entry(changed[number].id, {EVENT: bytes(data)})
    return changed


def frames(ids: Sequence[EntryId], *, shade: int) -> list[Entry]:
    """Return a video stream of plain pictures under these IDs."""
    done, jpeg = cv2.imencode(".jpg", np.full((512, 512, 3), shade, np.uint8))
    assert done
    return [Entry(entry_id, pack(MediaHeader(pts_us=0, sent_us=0), jpeg.tobytes())) for entry_id in ids]
