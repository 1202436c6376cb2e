"""One session's outputs, read once per process and fanned out to its connections.

Only what stands on the output streams is ever sent: there is no way from an input to a client here. While panic is on,
and for every output of an input from before it went off, nothing is sent at all.

The feed also follows the session's decisions, from the first one: what they put in force holds for every connection,
also for one that comes after them or to another ingress.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from ingress import background
from ingress.in_force import at_start, fold
from ingress.status import StatusFold, as_archive_status
from schemas.bus.base import Entry, Planes
from schemas.clock import Clock
from schemas.decisions import policy_decisions
from schemas.errors import BusUnavailable, CodecError, InputRejected
from schemas.events import EVENT, SessionEnded, metric_events
from schemas.facts import ControlFact, PanicSet, control_facts
from schemas.ids import EntryId
from schemas.media import MediaEntry, unpack
from schemas.names import SessionKeys
from schemas.session_store import ABANDONED, SessionRecord
from schemas.wire import MediaMessage, MediaType, encode

log = structlog.get_logger(__name__)

_BLOCK_MS = 1_000
_BACKOFF_S = 0.25
_MEDIA_BATCH = 32
_EVENT_BATCH = 256
_RECALL_BATCH = 1_000
_REMEMBERED = 1_024
"""Inputs whose outputs may still come: more than 15 s of sound and pictures."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What this process knows of an input that it published."""

    seq: int
    offset_us: int
    origin: object
    """The connection that it came from."""


@dataclass(frozen=True, slots=True)
class Output:
    """One frame or chunk for clients."""

    type: MediaType
    entry: MediaEntry
    sent: Sent | None
    wire: bytes
    """Its message in session time: the same for every viewer."""

    def in_client_time(self, offset_us: int) -> bytes:
        """Return the message in a publisher's own time."""
        seq = 0 if self.sent is None else self.sent.seq
        return encode(MediaMessage(self.type, self.entry.header.pts_us - offset_us, seq, self.entry.data))


class Listener(Protocol):
    """A connection, as the feed sees it. None of the methods waits."""

    def output(self, output: Output) -> None:
        """Take an output."""
        ...

    def blank(self) -> None:
        """Forget outputs that have not been sent: panic."""
        ...

    def in_force(self) -> None:
        """Learn that the feed's `in_force` has changed."""
        ...

    def over(self, reason: str) -> None:
        """Learn that the session has ended."""
        ...

    def waiting(self) -> int:
        """Return how many messages wait for the client."""
        ...


class SessionFeed:
    """What comes back from one session's workers. Runs while it has listeners."""

    def __init__(self, record: SessionRecord, planes: Planes, clock: Clock, on_fatal: background.OnFatal) -> None:
        """Prepare; nothing is read before `start`. Should reading ever fail, `on_fatal` is called."""
        self._record, self._keys = record, SessionKeys(record.sid)
        self._planes, self._clock, self._on_fatal = planes, clock, on_fatal
        self._listeners: set[Listener] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._media_cursors: dict[str, EntryId] = {}
        self._event_cursors: dict[str, EntryId] = {}
        self._sent: OrderedDict[tuple[MediaType, EntryId], Sent] = OrderedDict()
        self._held = False
        self._holds = self._panics = 0
        self._panic_floor: dict[MediaType, EntryId] = {}
        self._looks_back = False
        self._status = StatusFold()
        self.in_force = at_start(record)
        self.panic = False
        self.ended: str | None = None

    # --- life

    async def start(self) -> None:
        """Begin at the outputs' ends, with the facts and decisions so far; raises `BusUnavailable`."""
        keys, media, events = self._keys, self._planes.media, self._planes.events
        self._media_cursors = {name: await media.last_id(name) for name in (keys.video_out, keys.audio_out)}
        metrics_end = await events.last_id(keys.metrics)
        self._event_cursors = {keys.metrics: metrics_end}
        # In pages: of a long session there are many thousands of either, and everyone else would wait.
        self._event_cursors[keys.control] = await self._recall_facts()
        self._event_cursors[keys.policy] = decided = EntryId(0, 0)
        while decisions := await events.entries(keys.policy, after=decided, count=_EVENT_BATCH):
            for entry in decisions:
                self._decision(entry)
            self._event_cursors[keys.policy] = decided = decisions[-1].id
        self._tasks = [
            background.start(self._follow(read), name=f"{what}:{keys.sid}", on_fatal=self._on_fatal)
            for what, read in (("outputs", self._read_media), ("events", self._read_events))
        ]
        if self._record.record:
            recalling = self._follow(lambda: self._recall_archive(metrics_end))
            self._tasks.append(background.start(recalling, name=f"archive:{keys.sid}", on_fatal=self._on_fatal))

    async def stop(self) -> None:
        """Stop reading."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def add(self, listener: Listener) -> None:
        """Fan out to `listener` too; one that comes after the end is told so."""
        self._listeners.add(listener)
        if self.ended is not None:
            listener.over(self.ended)

    def remove(self, listener: Listener) -> None:
        """Stop fanning out to `listener`."""
        self._listeners.discard(listener)

    def status(self) -> dict[str, Any]:
        """Return the publisher's `status` message."""
        return {**self._status.report(now_us=self._clock.monotonic_us()), **self.in_force.as_status()}

    def waiting(self) -> int:
        """Return how many messages wait for the slowest client here."""
        return max((listener.waiting() for listener in self._listeners), default=0)

    # --- what the publisher of this process tells

    def remember(self, kind: MediaType, entry_id: EntryId, sent: Sent) -> None:
        """Note an input before it is published, so that its output finds its number and time again."""
        self._sent[kind, entry_id] = sent
        while len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    async def hold_panic(self) -> None:
        """Obey the publisher's panic key at once, before the fact of it comes round."""
        self._held = True
        self._holds += 1
        await self._set_panic(on=True)

    async def lift_panic(self) -> bool:
        """End panic behind everything that went in while it was on; returns whether the publisher still wants that.

        Raises `BusUnavailable` when the media plane cannot say what went in: panic stays on then.
        """
        holds = self._holds
        await self._set_panic(on=False)
        if holds != self._holds:
            return False  # it was switched on again meanwhile
        self._held = False
        return True

    def release_panic(self) -> None:
        """Leave panic to the facts alone: the publisher here is gone."""
        self._held = False

    async def _set_panic(self, *, on: bool) -> None:
        if on:
            self.panic = True
            self._panics += 1
            for listener in self._listeners:
                listener.blank()
        elif self.panic:
            panics = self._panics
            floor = {
                MediaType.VIDEO: await self._newest(MediaType.VIDEO, self._keys.video_in),
                MediaType.AUDIO: await self._newest(MediaType.AUDIO, self._keys.audio_in),
            }
            if panics == self._panics:  # else it was switched on again meanwhile
                self._panic_floor, self._looks_back, self.panic = floor, True, False

    async def _newest(self, kind: MediaType, stream: str) -> EntryId:
        """Return the newest input, counting those of ours that the media plane may still be writing."""
        last = await self._planes.media.last_id(stream)
        return max([last, *(entry_id for of, entry_id in self._sent if of is kind)])

    # --- readers

    async def _follow(self, read: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await read()
            except BusUnavailable as error:
                log.warning("feed lost the server", sid=self._keys.sid, error=str(error))
                await asyncio.sleep(_BACKOFF_S)

    async def _read_media(self) -> None:
        found = await self._planes.media.read(self._media_cursors, count=_MEDIA_BATCH, block_ms=_BLOCK_MS)
        for stream, kind in ((self._keys.audio_out, MediaType.AUDIO), (self._keys.video_out, MediaType.VIDEO)):
            for entry in found.get(stream, ()):
                self._media_cursors[stream] = entry.id
                self._output(kind, entry)

    def _output(self, kind: MediaType, entry: Entry) -> None:
        if self.panic or entry.id <= self._panic_floor.get(kind, EntryId(0, 0)) or self.ended is not None:
            return
        if kind is MediaType.AUDIO and self._looks_back:
            # Converted sound lags by its lookahead: the first chunk after panic still has some of the panic in it.
            self._looks_back = False
            return
        try:
            media = unpack(entry.id, entry.fields)
        except CodecError as error:
            log.warning("unreadable output", sid=self._keys.sid, id=str(entry.id), error=str(error))
            return
        sent = self._sent.get((kind, entry.id))
        seq = 0 if sent is None else sent.seq
        output = Output(kind, media, sent, encode(MediaMessage(kind, media.header.pts_us, seq, media.data)))
        for listener in self._listeners:
            listener.output(output)

    async def _read_events(self) -> None:
        found = await self._planes.events.read(self._event_cursors, count=_EVENT_BATCH, block_ms=_BLOCK_MS)
        keys, now_us = self._keys, self._clock.monotonic_us()
        for entry in found.get(keys.control, ()):
            await self._fact(entry)
            self._event_cursors[keys.control] = entry.id
        for entry in found.get(keys.policy, ()):
            self._decision(entry)
            self._event_cursors[keys.policy] = entry.id
        for entry in found.get(keys.metrics, ()):
            self._event_cursors[keys.metrics] = entry.id
            try:
                self._status.fold(metric_events.decode(entry.fields[EVENT]), now_us=now_us)
            except (CodecError, KeyError) as error:
                log.warning("unreadable event", sid=keys.sid, id=str(entry.id), error=str(error))

    async def _recall_archive(self, before: EntryId) -> None:
        """Find how the recording stood when the feed began: it is said on changes only, maybe hours ago."""
        events, stream = self._planes.events, self._keys.metrics
        while True:
            batch = await events.entries(stream, until=before, count=_RECALL_BATCH, newest_first=True)
            found = next(filter(None, (as_archive_status(entry.fields.get(EVENT, b"")) for entry in batch)), None)
            if found is not None:
                self._status.recall(found)
            if found is not None or len(batch) < _RECALL_BATCH:
                await asyncio.Event().wait()  # there is nothing more to look for
            before = batch[-1].id  # once more: that entry says nothing of it

    def _decision(self, entry: Entry) -> None:
        try:
            decision = policy_decisions.decode(entry.fields[EVENT])
            after = fold(self.in_force, decision, self._record)
        except (InputRejected, KeyError) as error:
            log.warning("decision not obeyed", sid=self._keys.sid, id=str(entry.id), error=str(error))
            return
        before, self.in_force = self.in_force, after
        if after != before:
            for listener in list(self._listeners):
                listener.in_force()
        if after.abandoned:
            self._end(ABANDONED)

    async def _recall_facts(self) -> EntryId:
        """Fold the facts so far, and return where they end. Of panic only the last state counts: nobody saw others."""
        at, was_on, on = EntryId(0, 0), False, False
        while facts := await self._planes.events.entries(self._keys.control, after=at, count=_EVENT_BATCH):
            for entry in facts:
                fact = self._decode_fact(entry)
                if isinstance(fact, PanicSet):
                    was_on, on = was_on or fact.on, fact.on
                elif isinstance(fact, SessionEnded):
                    self._end(fact.reason)
            at = facts[-1].id
        for state in (True, on) if was_on else ():
            await self._set_panic(on=state)
        return at

    def _decode_fact(self, entry: Entry) -> ControlFact | None:
        try:
            return control_facts.decode(entry.fields[EVENT])
        except (CodecError, KeyError) as error:
            log.warning("unreadable fact", sid=self._keys.sid, id=str(entry.id), error=str(error))
            return None

    async def _fact(self, entry: Entry) -> None:
        fact = self._decode_fact(entry)
        if isinstance(fact, PanicSet):
            # An "off" that the publisher here has meanwhile taken back must not open a gap.
            if fact.on or not self._held:
                await self._set_panic(on=fact.on)
        elif isinstance(fact, SessionEnded):
            self._end(fact.reason)

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
            for listener in list(self._listeners):
                listener.over(reason)
