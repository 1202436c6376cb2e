"""The task of every media worker: read input, choose what to work on, convert, publish, report.

One outcome per input ID: an output, or a drop event that names the reason. Drops are reported before the frame that
superseded them, an output's own outcome after its publication, so at any moment everything up to the checkpoint is
settled and everything after it is not. Reports (`workers.reports`) ride behind outcomes, in the same round trip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from schemas.bus.base import Entry
from schemas.errors import CodecError, InputRejected
from schemas.events import EVENT, DropReason, Outcome
from schemas.facts import SettingsChanged
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader, pack, unpack
from schemas.message import encode
from schemas.names import Kind
from schemas.task import Lease, Source
from workers.freshness import Drop, Limits, SoftSkipping, burst_size, select
from workers.outcomes import last_reported, unreported
from workers.reports import Reports, beyond
from workers.session_watch import SessionWatch

log = structlog.get_logger(__name__)

_MAYBE_MORE = 8  # entries: a batch this long is a backlog, and the read may have stopped in the middle of it


@dataclass(frozen=True, slots=True)
class Converted:
    """One output, before publication."""

    header: MediaHeader
    data: bytes


class Converter(Protocol):
    """What a medium adds to the task: its streams, its outcomes and the conversion itself."""

    @property
    def streams(self) -> tuple[str, str]:
        """Input and output stream."""
        ...

    async def open(self) -> None:
        """Load templates and make the engine's session."""
        ...

    async def prime(self, checkpoint: EntryId) -> None:
        """Rebuild from the input at or before `checkpoint` what a predecessor carried in memory."""
        ...

    async def change(self, settings: SettingsChanged) -> None:
        """Take a live change of settings."""
        ...

    async def convert(self, entry: MediaEntry) -> Converted:
        """Convert one input. Raises `InputRejected` when it would not decode; any other error is the engine's."""
        ...

    def processed(self, entry: MediaEntry, *, runtime_us: int, epoch: int) -> Outcome:
        """Return the outcome event of the conversion just done."""
        ...

    def dropped(self, entry: MediaEntry, reason: DropReason, *, epoch: int) -> Outcome:
        """Return the outcome event of an input that is not published."""
        ...

    async def close(self) -> None:
        """Release the engine's session."""
        ...


class MediaTask:
    """Implements `SessionTask` for one medium of one session."""

    def __init__(
        self, lease: Lease, converter: Converter, *, limits: Limits, retention_ms: int, engine: object = None
    ) -> None:
        """Prepare; no I/O. `engine` is asked for its memory, if it offers `MemoryFigures`."""
        self._lease, self._converter, self._limits, self._retention_ms = lease, converter, limits, retention_ms
        self._pending: list[SettingsChanged] = []
        self._watch = SessionWatch(lease, on_settings=self._pending.append)
        self._soft_skipping = SoftSkipping()
        self._reports = Reports(lease, engine)
        self._waiting = 0
        self._runtime_us = 0
        self._free_since_us = 0
        self._log = log.bind(kind=lease.kind.value, sid=lease.keys.sid, worker=lease.worker, epoch=lease.epoch)

    @property
    def source(self) -> Source:
        """The medium's input."""
        return Source(self._lease.planes.media, self._converter.streams[0])

    async def resume(self) -> EntryId:
        """Report what the predecessor published but did not report; go on after everything settled."""
        planes, keys = self._lease.planes, self._lease.keys
        output = self._converter.streams[1]
        await self._watch.start()
        await self._converter.open()
        await self._apply_settings()  # before priming: a change of voice opens a new stream
        reported = await last_reported(planes, keys.metrics, self._lease.kind)
        repair = await unreported(planes, output, after=reported, epoch=self._lease.epoch)
        opened = [{EVENT: encode(report)} for report in self._reports.opened()]
        await planes.events.append_all(keys.metrics, [*repair, *opened])
        if repair:
            self._log.info("reported for a predecessor", outcomes=len(repair))
        checkpoint = max(reported, await planes.media.last_id(output))
        await self._converter.prime(checkpoint)
        self._free_since_us = self._lease.clock.monotonic_us()
        return checkpoint

    async def handle(self, entries: Sequence[Entry]) -> None:
        """Settle every entry: convert and publish the fresh ones, report the rest."""
        arrived_us = self._lease.clock.monotonic_us()
        newest_ms = await self._newest_ms(entries)
        unread = beyond([entry.id for entry in entries], newest_ms)
        waiting = [self._unpack(entry) for entry in entries]
        while waiting:
            self._watch.check()
            work, drops = self._choose(waiting, newest_ms, arrived_us)
            if work:  # no report runs ahead of an older input: the next owner would take that one for settled, too
                drops = [drop for drop in drops if drop.entry.id < work[0].id]
                if self._lease.kind is Kind.VIDEO and self._soft_skipping.leaves_out(self._watch.soft_skip_of):
                    drops.append(Drop(work[0], DropReason.SOFT_SKIP))
                    work = []
            # What the next round sees as floor, age and end is what is in force by then.
            waiting = waiting[len(drops) + len(work[:1]) :]
            self._waiting = len(waiting) + unread
            await self._report([self._dropped(drop) for drop in drops])
            if work:
                await self._settle(work[0], arrived_us)

    def _choose(
        self, waiting: Sequence[MediaEntry], newest_ms: int, arrived_us: int
    ) -> tuple[list[MediaEntry], list[Drop]]:
        if self._watch.ended:
            return [], [Drop(entry, DropReason.ENDED) for entry in waiting]
        return select(
            waiting,
            limits=self._limits,
            floor_us=self._watch.floor_us if self._lease.kind is Kind.VIDEO else None,  # the floor is for pictures
            newest_ms=newest_ms,
            waited_us=self._lease.clock.monotonic_us() - arrived_us,
            burst=burst_size(self._runtime_us, 1_000_000 // max(1, waiting[-1].header.fps)),
        )

    def end(self) -> None:
        """Publish nothing more."""
        self._watch.ended = True

    async def _apply_settings(self) -> None:
        """Put what changed into force, once: after a takeover the session's whole history is pending."""
        if not self._pending:
            return
        newest_first = self._pending[::-1]
        self._pending.clear()
        faces = next((change.faces for change in newest_first if change.faces is not None), None)
        voice = next((change.voice for change in newest_first if change.voice is not None), None)
        fidelity_pm = next((change.fidelity_pm for change in newest_first if change.fidelity_pm is not None), None)
        await self._converter.change(SettingsChanged(faces=faces, voice=voice, fidelity_pm=fidelity_pm))

    async def _newest_ms(self, entries: Sequence[Entry]) -> int:
        """Return the stream time of the newest input; after a takeover that may be far beyond this batch."""
        if len(entries) < _MAYBE_MORE:
            return entries[-1].id.ms
        return (await self._lease.planes.media.last_id(self.source.stream)).ms

    def _unpack(self, entry: Entry) -> MediaEntry:
        """Return the input; what cannot be read is empty, and will be found invalid in its turn."""
        try:
            return unpack(entry.id, entry.fields)
        except CodecError as error:
            self._log.warning("unreadable input", id=str(entry.id), error=str(error))
            return MediaEntry(entry.id, MediaHeader(pts_us=0, sent_us=0), b"")

    async def _settle(self, entry: MediaEntry, arrived_us: int) -> None:
        """Convert one input, publish the output, report the outcome."""
        clock = self._lease.clock
        await self._apply_settings()
        started_us = max(arrived_us, self._free_since_us)
        refusal: DropReason | None = None
        try:
            converted = await self._converter.convert(entry)
        except InputRejected as error:
            self._log.warning("input would not decode", id=str(entry.id), error=str(error))
            refusal = DropReason.INVALID
        except Exception:  # noqa: BLE001 - logged with its traceback; an engine may raise anything
            # Whatever the engine did, this input is lost and nothing of it is shown; the session goes on.
            self._log.exception("engine failed", id=str(entry.id))
            refusal = DropReason.ENGINE
        if self._watch.ended:  # revoked while the engine worked: not one frame more
            refusal = DropReason.ENDED
        if refusal is not None:
            await self._report([self._dropped(Drop(entry, refusal))])
            self._free_since_us = clock.monotonic_us()
            return
        runtime_us = clock.monotonic_us() - started_us
        outcome = self._converter.processed(entry, runtime_us=runtime_us, epoch=self._lease.epoch)
        await self._lease.planes.media.publish(
            self._converter.streams[1],
            entry.id,
            pack(converted.header, converted.data, outcome),
            fence=self._lease.fence,
            keep_ms=self._retention_ms,
        )
        await self._report([outcome])
        self._free_since_us = clock.monotonic_us()
        self._runtime_us = runtime_us if self._runtime_us == 0 else (3 * self._runtime_us + runtime_us) // 4

    def _dropped(self, drop: Drop) -> Outcome:
        return self._converter.dropped(drop.entry, drop.reason, epoch=self._lease.epoch)

    async def _report(self, outcomes: Sequence[Outcome]) -> None:
        """Append outcomes, and the reports that are due with them."""
        if not outcomes:
            return
        events = [*outcomes, *self._reports.due(outcomes, waiting=self._waiting)]
        await self._lease.planes.events.append_all(
            self._lease.keys.metrics, [{EVENT: encode(event)} for event in events]
        )

    async def close(self) -> None:
        """Stop watching and release the engine's session."""
        await self._watch.stop()
        await self._converter.close()
