"""A real recorded session: real servers, real workers with the embedded engines, a real recorder, and what befalls it.

Wearing a face and a voice, it gets smaller pictures and shorter chunks, drops every seventh frame, changes face and
voice, loses both workers to SIGKILL, goes silent and comes back.
"""

import asyncio
import os
import signal
import subprocess
import sys
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ops.archive.file import archive_path
from ops.archive.layout import MAGIC
from ops.demo.footage import read_video
from ops.demo.inputs import talking_head
from ops.enrolment import enrol_face
from ops.shipped import add_shipped, public_consent
from ops.shipped_media import media_file
from ops.tether import command
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus
from schemas.consent import Identity
from schemas.decisions import SoftSkip
from schemas.events import EVENT, AudioProcessed, AudioSkipped, Outcome, WorkerTook, metric_events
from schemas.facts import SettingsChanged
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import VOICE_ON, VOICE_SILENT, MediaHeader, pack
from schemas.message import encode
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord, SessionStore
from tests.faults.harness import COUNT_EVERY_FRAME
from tests.waiting import until

FACE, OTHER_FACE, VOICE, OTHER_VOICE = "shipped-portrait", "mirrored", "shipped-voice-a", "shipped-voice-b"
SECONDS, SMALLER_S, CHANGED_S, KILLED_S, SILENT_S, LOUD_S = 2.5, 0.7, 1.0, 1.4, 1.8, 2.1
_LEASE_MS = 500


@dataclass(frozen=True)
class Recorded:
    """What the tests look at."""

    sid: str
    path: Path
    environ: dict[str, str]
    events_url: str


@dataclass
class _Stage:
    planes: Planes
    sid: str

    @property
    def keys(self) -> SessionKeys:
        return SessionKeys(self.sid)

    async def create(self) -> None:
        now = await self.planes.events.now_ms()
        record = SessionRecord(
            sid=self.sid,
            owner="test",
            faces=(FACE, OTHER_FACE),
            max_faces=2,
            voice=VOICE,
            created_ms=now,
            expires_ms=now + 3_600_000,
            record=True,
        )
        await SessionStore(self.planes).create(record, deadline_ms=now + 600_000)

    async def took(self) -> list[WorkerTook]:
        found = await self.planes.events.entries(self.keys.metrics)
        events = [metric_events.decode(entry.fields[EVENT]) for entry in found]
        return [event for event in events if isinstance(event, WorkerTook)]

    async def owned(self) -> bool:
        return {event.kind for event in await self.took()} >= {"video", "voice", "record"}

    async def kill_owners(self) -> None:
        last = {event.kind: event.worker for event in await self.took()}
        for kind in ("video", "voice"):
            os.kill(int(last[kind].split("-")[-2]), signal.SIGKILL)

    async def publish(self) -> None:
        """Publish as ingress does, each input when it is due."""
        jpegs = read_video(talking_head(), SECONDS).jpegs
        with wave.open(str(media_file("speaker_a.wav"))) as reader:
            speech = np.frombuffer(reader.readframes(int(SECONDS * 16_000)), "<i2")
        due: list[tuple[float, str, MediaHeader, bytes]] = []
        for n, jpeg in enumerate(jpegs):
            at = n / 20
            small = at >= SMALLER_S
            header = MediaHeader(
                pts_us=n * 50_000, sent_us=0, rung=int(small), size=384 if small else 512, quality=60 if small else 85
            )
            due.append((at, "video_in", header, jpeg if n != 10 else jpeg[:900]))
        start = 0
        while start < len(speech):
            at = start / 16_000
            chunk_ms = 96 if at >= SMALLER_S else 192
            chunk = speech[start : start + chunk_ms * 16]
            voice = VOICE_SILENT if SILENT_S <= at < LOUD_S else VOICE_ON
            header = MediaHeader(pts_us=start * 1_000_000 // 16_000, sent_us=0, chunk_ms=chunk_ms, voice=voice)
            if len(chunk) == chunk_ms * 16:
                due.append((at, "audio_in", header, chunk.tobytes()))
            start += chunk_ms * 16
        loop = asyncio.get_running_loop()
        began, now_ms = loop.time(), await self.planes.media.now_ms()
        facts = [(CHANGED_S, self._change), (KILLED_S, self.kill_owners)]
        for at, stream, header, data in sorted(due, key=lambda one: one[0]):
            while facts and at >= facts[0][0]:
                await facts.pop(0)[1]()
            await asyncio.sleep(max(0.0, began + at - loop.time()))
            entry_id = EntryId(now_ms + round(at * 1000), 0)
            await self.planes.media.publish(getattr(self.keys, stream), entry_id, pack(header, data), keep_ms=300_000)

    async def _change(self) -> None:
        fact = SettingsChanged(faces=(OTHER_FACE, FACE), voice=OTHER_VOICE)
        await self.planes.events.append(self.keys.control, {EVENT: encode(fact)})

    async def settled(self) -> bool:
        found = await self.planes.events.entries(self.keys.metrics)
        outcomes = {
            (isinstance(event, AudioProcessed | AudioSkipped), event.id)
            for event in (metric_events.decode(entry.fields[EVENT]) for entry in found)
            if isinstance(event, Outcome)
        }
        streams = (self.keys.video_in, self.keys.audio_in)
        return len(outcomes) >= sum([await self.planes.media.length(stream) for stream in streams])


async def add_mirrored(planes: Planes) -> None:
    """Enrol the shipped portrait the other way round: the same face, another template."""
    picture = cv2.imdecode(np.frombuffer(media_file("portrait.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    upload = cv2.imencode(".png", cv2.flip(picture, 1))[1].tobytes()
    record = Identity(
        id=OTHER_FACE,
        label=OTHER_FACE,
        kinds=("face",),
        owner="test",
        created_ms=await planes.events.now_ms(),
        consent=public_consent("face", "portrait.png"),
    )
    await IdentityStore(planes.events).add(record, face=enrol_face(upload), voice=None)


async def live(urls: tuple[str, str], sid: str, path: Path) -> None:
    """Let the session happen, and wait for its archive."""
    planes = Planes(RedisBus(urls[0]), RedisBus(urls[1]))
    stage = _Stage(planes, sid)
    try:
        await add_shipped(planes.events, "test")
        await add_mirrored(planes)
        await stage.create()
        await until(stage.owned, within_s=40, what="workers take the session")
        order = SoftSkip(cause="1-0", rule="soft_skip", of=7)
        await planes.events.append(stage.keys.policy, {EVENT: encode(order)})
        await stage.publish()
        await until(stage.settled, within_s=40, what="every input has its outcome")
        await SessionStore(planes, media_retention_s=300).end(sid, "over")

        async def indexed() -> bool:
            return _indexed(path)

        # Nobody works on policy here: its entry is taken off, so that the recorder need not wait for it.
        while (claimed := await planes.events.claim(Kind.POLICY, "test")) is not None:
            await planes.events.retire(Kind.POLICY, "test", claimed.id)
        await until(indexed, within_s=40, what="the archive is whole")
    finally:
        await planes.close()


def _indexed(path: Path) -> bool:
    return path.exists() and path.read_bytes().endswith(MAGIC)


@contextmanager
def recorded(urls: tuple[str, str], folder: Path) -> Iterator[Recorded]:
    """Record the session; what is on the servers stays."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")} | {
        "MIRAGE_REDIS_URL": urls[0],
        "MIRAGE_EVENTS_URL": urls[1],
        "MIRAGE_DATA_DIR": str(folder / "data"),
        "MIRAGE_ENGINE": "embedded",
        "MIRAGE_VOICE_ENGINE": "embedded",
        "MIRAGE_MEDIA_RETENTION_S": "300",
        "MIRAGE_LEASE_MS": str(_LEASE_MS),
        "MIRAGE_LOG_LEVEL": "warning",
        **COUNT_EVERY_FRAME,
    }
    sid = "recorded-session"
    path = archive_path(folder / "data" / "archives", sid)
    kinds = ("video", "video", "voice", "voice", "record")
    started = [
        subprocess.Popen(command([sys.executable, "-m", "ops.cli", "worker", kind]), env=environ) for kind in kinds
    ]
    try:
        asyncio.run(live(urls, sid, path))
    finally:
        for process in started:
            process.kill()
            process.wait()
    yield Recorded(sid, path, environ, urls[1])
