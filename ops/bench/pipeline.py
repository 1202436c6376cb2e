"""`mirage bench pipeline`: what the pipeline adds around an engine, next to the floor, in one run on one server.

| figure | from | to |
|---|---|---|
| floor | raw hiredis XADD | raw hiredis XREAD of the copy that a bare loop made |
| two hops | `Bus.publish` of a frame | `Bus.read` of the output that a real worker, passing it through, published |
| websocket | a client's send | its receipt of the same frame's output, through ingress both ways |

Batches of the three alternate, so that a machine whose speed drifts shifts them together.
"""

import asyncio
import contextlib
import dataclasses
import itertools
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from ops.bench.floor import TwoHops
from ops.client import MirageClient, ReceivedMedia, SessionConnection
from ops.commands.up import ready
from ops.settings import Settings
from ops.supervisor import System, login_code
from ops.tether import command
from schemas.bus.base import Fence, Planes
from schemas.bus.redis import RedisBus
from schemas.ids import EntryId, IdSource
from schemas.media import MediaHeader, pack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord, SessionStore

FRAME_BYTES = 40 * 1024
PACE_S = 0.02  # between frames: one at a time, as latency wants; a queue would measure throughput


@dataclass
class PipelineFigures:
    """Seconds a frame, by path."""

    floor: list[float] = field(default_factory=list)
    two_hop: list[float] = field(default_factory=list)
    websocket: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return the published keys: milliseconds, and the ratio of the medians."""
        ratio = float(np.median(self.two_hop) / np.median(self.floor))
        return {
            "two_hop_ms": _percentiles(self.two_hop),
            "floor_ms": _percentiles(self.floor),
            "ratio": round(ratio, 2),
            "ws_added_ms": _percentiles(self.websocket),
            "frame_bytes": FRAME_BYTES,
            "frames": len(self.two_hop),
        }


def _percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p99 = np.percentile(np.asarray(seconds) * 1000, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def jpeg_of(size: int) -> bytes:
    """Return a real baseline JPEG of 512x512 padded to exactly `size` bytes with a comment segment."""
    noise = np.random.default_rng(0).normal(128, 40, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    frame = cv2.resize(noise, (512, 512), interpolation=cv2.INTER_CUBIC)
    data = bytes(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes())
    spare = size - len(data)
    if not 4 <= spare < 65_000:
        raise ValueError(f"the picture has {len(data)} bytes; it cannot be padded to {size}")
    return data[:2] + b"\xff\xfe" + (spare - 2).to_bytes(2, "big") + bytes(spare - 4) + data[2:]


@contextlib.contextmanager
def _child(argv: list[str], environ: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command(argv), env=environ)  # noqa: S603 - our own command
    try:
        yield
    finally:
        process.kill()
        process.wait()


async def measure(frames: int, batches: int, progress: Callable[[int], None]) -> PipelineFigures:
    """Run the benchmark on a system of its own: `frames` a path in `batches` alternating batches."""
    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as folder:
        settings = dataclasses.replace(
            Settings(), data_dir=Path(folder), port=0, video_workers=0, voice_workers=0, log_level="warning"
        )
        environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
        with System(settings, environ=environ | {"MIRAGE_LOG_LEVEL": "warning"}) as system:
            return await _measure_on(system, environ, frames, batches, progress)


async def _measure_on(
    system: System, environ: dict[str, str], frames: int, batches: int, progress: Callable[[int], None]
) -> PipelineFigures:
    figures, data = PipelineFigures(), jpeg_of(FRAME_BYTES)
    media_times_us = itertools.count(0, 50_000)  # faster than the frame rate in force, ingress would leave frames out
    path = system.media_url.removeprefix("unix://")
    environ |= {
        "MIRAGE_REDIS_URL": system.media_url,
        "MIRAGE_EVENTS_URL": system.events_url,
        "MIRAGE_LOG_LEVEL": "warning",
    }
    floor = [sys.executable, "-m", "ops.bench.floor", path]
    worker = [sys.executable, "-m", "ops.bench.passthrough_worker", "video", "0"]
    planes = Planes(RedisBus(system.media_url), RedisBus(system.events_url))
    try:
        with _child(floor, environ), _child(worker, environ):
            await ready(system.http_url, asyncio.Event())
            hops, bare = await BusHops.start(planes), TwoHops(path)
            async with _websocket(system, planes) as connection:
                for _ in range(8):  # warm-up: claims, connections, first pages
                    bare.time_once(data)
                    await hops.time_once(data)
                    await _time_websocket(connection, data, media_times_us)
                for _ in range(batches):
                    for _ in range(frames // batches):
                        figures.floor.append(bare.time_once(data))
                        await asyncio.sleep(PACE_S)
                    for _ in range(frames // batches):
                        figures.two_hop.append(await hops.time_once(data))
                        await asyncio.sleep(PACE_S)
                    for _ in range(frames // batches):
                        figures.websocket.append(await _time_websocket(connection, data, media_times_us))
                        await asyncio.sleep(PACE_S)
                    progress(3 * (frames // batches))
    finally:
        await planes.close()
    return figures


class BusHops:
    """Publishes frames as ingress does and reads what the worker makes of them, without ingress."""

    def __init__(self, planes: Planes, sid: str, fence: Fence, ids: IdSource) -> None:
        """Use a session that exists."""
        self._planes, self._keys, self._fence, self._ids = planes, SessionKeys(sid), fence, ids
        self._cursor = EntryId(0, 0)
        self._n = 0

    @classmethod
    async def start(cls, planes: Planes) -> "BusHops":
        """Create a session; the worker claims it with the first frame."""
        sid, now_ms = secrets.token_hex(16), await planes.events.now_ms()
        record = SessionRecord(sid=sid, owner="bench", created_ms=now_ms, expires_ms=now_ms + 3_600_000)
        await SessionStore(planes).create(record, deadline_ms=now_ms + 3_600_000)
        key = SessionKeys(sid).epoch
        fence = Fence(key, Kind.PUBLISH, await planes.media.raise_epoch(key, Kind.PUBLISH))
        return cls(planes, sid, fence, IdSource(EntryId(0, 0), lambda: time.time_ns() // 1_000_000))

    async def time_once(self, data: bytes) -> float:
        """Return seconds from publishing a frame to holding its output."""
        self._n += 1
        header = MediaHeader(pts_us=self._n * 50_000, sent_us=0)
        started = time.perf_counter()
        entry_id = self._ids.take()
        media = self._planes.media
        await media.publish(self._keys.video_in, entry_id, pack(header, data), fence=self._fence, keep_ms=15_000)
        while True:
            found = await media.read({self._keys.video_out: self._cursor}, count=8, block_ms=2000)
            for entry in found.get(self._keys.video_out, []):
                self._cursor = entry.id
                if entry.id == entry_id:
                    return time.perf_counter() - started


@contextlib.asynccontextmanager
async def _websocket(system: System, planes: Planes) -> AsyncIterator[SessionConnection]:
    client = MirageClient(system.http_url)
    await client.login(await login_code(planes.events, "bench"))
    sid = await client.create_session()
    async with await client.connect(sid) as connection:
        yield connection


async def _time_websocket(connection: SessionConnection, data: bytes, media_times_us: Iterator[int]) -> float:
    """Return seconds from sending a frame to receiving its output; in media time, frames are 50 ms apart."""
    pts_us = next(media_times_us)
    started = time.perf_counter()
    await connection.send_video(pts_us, data)
    async for message in connection:
        if isinstance(message, ReceivedMedia) and message.pts_us == pts_us:
            return time.perf_counter() - started
    raise ConnectionError("the connection closed before the frame came back")
