"""A made-up session with the shape of a real one: speech with pauses, bursts of load, drops, reports, a takeover.

The same seed gives the same bytes. Its decisions are those that folding leads to, so it replays as the same.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

from msgspec.structs import replace

from ops.archive.model import require_stream
from ops.replay.fold import fold
from policy.reducer import PolicyState, step
from schemas.bus.base import Entry
from schemas.events import (
    EVENT,
    Acceptance,
    AudioProcessed,
    Backlog,
    Detections,
    DropReason,
    Gpu,
    MetricEvent,
    Playback,
    SessionEnded,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import ZERO, EntryId
from schemas.message import encode
from schemas.session_store import SessionRecord

START_MS = 1_760_000_000_000
_FRAME_MS, _CHUNK_MS = 50, 192
_BURST_EVERY_S, _BURST_S = 180, 25


class _From(TypedDict):
    producer: str
    seq: int


@dataclass
class SyntheticSession:
    """Implements `RecordedSession`; `seconds` long at 20 frames a second. Holds no media."""

    seconds: int
    seed: int = 7
    sid: str = "synthetic"
    problems: tuple[str, ...] = ()
    _seq: dict[str, int] = field(default_factory=dict)

    @property
    def record(self) -> SessionRecord:
        """What it was created with."""
        return SessionRecord(sid=self.sid, owner="bench", created_ms=START_MS, expires_ms=START_MS + (1 << 40))

    def entries(self, stream: str, *, after: EntryId = ZERO) -> Iterator[Entry]:
        """Yield the entries of a stream, oldest first."""
        require_stream(stream)
        found = {"metrics": self.metrics, "policy": self.policy}.get(stream, [])
        return (entry for entry in found if entry.id > after)

    @cached_property
    def policy(self) -> list[Entry]:
        """The decisions that its metrics lead to."""
        return [Entry(written.id, {EVENT: written.data}) for written in fold(self.metrics).decisions]

    @cached_property
    def metrics(self) -> list[Entry]:
        """Its metric events, each of the rung and the chunk size that the ones before it led to."""
        timed = sorted(self._events(), key=lambda item: item[0])
        made, last, state = [], EntryId(0, 0), PolicyState()
        for at_ms, event in timed:
            fresh = EntryId(START_MS + at_ms, 0)
            last = fresh if fresh > last else last.successor()
            stamped = _in_force(event, state)
            state, _ = step(state, last, stamped)
            made.append(Entry(last, {EVENT: encode(stamped)}))
        return made

    def _events(self) -> Iterator[tuple[int, MetricEvent]]:
        chance = random.Random(self.seed)
        end_ms = self.seconds * 1000
        yield 0, SessionStarted(at_us=START_MS * 1000)
        for n, kind in enumerate(("policy", "video", "voice")):
            yield n + 1, WorkerTook(kind=kind, worker=f"host-{n}", epoch=1)
        yield end_ms // 2, WorkerTook(kind="video", worker="host-9", epoch=2)
        for n in range(end_ms // _FRAME_MS):
            yield self._frame(chance, n, end_ms)
        for n in range(end_ms // _CHUNK_MS):
            yield self._chunk(chance, n)
        for second in range(self.seconds):
            yield from self._reports(chance, second)
        yield end_ms, SessionEnded(reason="ended by its owner")

    def _frame(self, chance: random.Random, n: int, end_ms: int) -> tuple[int, MetricEvent]:
        pts_us, busy = n * _FRAME_MS * 1000, _busy(n * _FRAME_MS)
        epoch = 1 if n * _FRAME_MS < end_ms // 2 else 2
        runtime_ms = chance.gauss(46 if busy else 22, 4) + (9 if n % 5 == 0 else 0)
        at_ms = n * _FRAME_MS + 30 + int(max(5, runtime_ms)) + (chance.randrange(0, 260) if busy else 0)
        name = str(EntryId(START_MS + n * _FRAME_MS, 0))
        if busy and chance.random() < 0.12:
            reason = chance.choice((DropReason.SUPERSEDED, DropReason.SUPERSEDED, DropReason.STALE, DropReason.LATE))
            return at_ms, VideoDropped(id=name, pts_us=pts_us, epoch=epoch, reason=reason)
        us = int(max(5.0, runtime_ms) * 1000)
        stages = {"decode": us // 12, "detect": us // 6, "track": us // 9, "swap": us // 3, "paste": us // 7}
        return at_ms, VideoProcessed(
            id=name,
            pts_us=pts_us,
            epoch=epoch,
            runtime_us=us,
            stages_us=stages | {"encode": us // 15},
            faces=1,
            detector_ran=n % 5 == 0,
            confidence_pm=chance.randrange(860, 980),
            outcome="covered" if chance.random() < 0.01 else "swapped",
        )

    def _chunk(self, chance: random.Random, n: int) -> tuple[int, MetricEvent]:
        start_ms = n * _CHUNK_MS
        ratio = chance.gauss(0.82 if _busy(start_ms) else 0.42, 0.05)
        us = int(max(0.05, ratio) * _CHUNK_MS * 1000)
        return start_ms + _CHUNK_MS + us // 1000 + 5, AudioProcessed(
            id=str(EntryId(START_MS + start_ms + _CHUNK_MS, 0)),
            pts_us=start_ms * 1000 - 20_000,
            epoch=1,
            duration_us=_CHUNK_MS * 1000,
            runtime_us=us,
            stages_us={"encode": us // 5, "f0": us // 4, "convert": us // 2, "post": us // 20},
            outcome="gated" if (start_ms // 1000) % 17 < 3 else "converted",
        )

    def _reports(self, chance: random.Random, second: int) -> Iterator[tuple[int, MetricEvent]]:
        at_ms, slow = second * 1000 + 700, _busy(second * 1000)
        e2e_us = int(chance.gauss(420 if slow else 290, 25) * 1000)
        yield at_ms, Playback(
            **self._from("player"), audio_us=at_ms * 1000, video_us=at_ms * 1000 - 30_000, buffered_us=60_000,
            underruns=0, e2e_us=max(0, e2e_us),
        )  # fmt: skip
        yield at_ms + 1, Backlog(**self._from("video"), video=chance.randrange(0, 6 if slow else 2))
        yield at_ms + 2, Backlog(**self._from("voice"), audio=chance.randrange(0, 3 if slow else 2))
        yield at_ms + 3, Backlog(**self._from("ingress"), outbound=0)
        if second % 5 == 4:
            yield at_ms + 4, Detections(**self._from("video"), frames=100, runs=20, early=1, shortest=1, longest=5)
            yield at_ms + 5, Acceptance(**self._from("voice"), chunks=26, accepted=4 if slow else 26)
            yield at_ms + 6, Gpu(**self._from("video"), kind="video")

    def _from(self, producer: str) -> _From:
        self._seq[producer] = self._seq.get(producer, 0) + 1
        return {"producer": producer, "seq": self._seq[producer]}


def _in_force(event: MetricEvent, state: PolicyState) -> MetricEvent:
    match event:
        case VideoProcessed() | VideoDropped():
            return replace(event, rung=state.ladder.rung)
        case AudioProcessed():
            return replace(event, duration_us=state.audio.chunk_ms * 1000)
        case _:
            return event


def _busy(at_ms: int) -> bool:
    """Return whether a burst of load is on: the first after a minute, then one every three."""
    return at_ms // 1000 % _BURST_EVERY_S in range(60, 60 + _BURST_S)
