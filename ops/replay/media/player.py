"""Feeds one medium of a recorded session to the converter of the workers, one input after the other.

The converter is all of a worker that shapes an output: decoding, engine, encoding, state, priming. What surrounds it
live (which input is worth working on, deadlines, floors, leases) decides by the clock, and its decisions are in the
recording: the player obeys those. Engine faults (`MIRAGE_FAULT`) cost time and change no byte: they are not replayed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from ops.replay.media.plan import Made, Medium, Step
from ops.replay.media.verdict import Tally
from schemas.bus.base import Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.errors import CodecError, InputRejected
from schemas.facts import SettingsChanged
from schemas.ids import ZERO, EntryId
from schemas.media import MediaEntry, pack, unpack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from workers.media_task import Converter

MakeConverter = Callable[[Lease], Converter]
Permit = Callable[[str, str], Awaitable[None]]
"""Given a kind (`face`, `voice`) and an identity, raises `Refused` unless it may be worn now."""
Pace = Callable[[EntryId], Awaitable[None]]
"""Waits until the input with this ID is due."""


class MediaPlayer:
    """Plays one medium. A converter lives as long as the owner that it stands for."""

    def __init__(
        self, medium: Medium, record: SessionRecord, *, make: MakeConverter, permit: Permit, pace: Pace, tally: Tally
    ) -> None:
        """Prepare; outcomes go to `tally`."""
        self._medium, self._record, self._make, self._permit, self._pace = medium, record, make, permit, pace
        self._tally = tally
        # Inputs lie here as they lay on the bus, dropped ones too, and the headers of outputs: an owner primes itself
        # with what it finds there.
        self._bus = MemoryBus()
        self._converter: Converter | None = None
        self._epoch: int | None = None
        self._worn: tuple[str, ...] = ()
        self._settled = ZERO

    async def play(self, steps: Iterable[Step], checkpoints: Mapping[int, EntryId]) -> None:
        """Convert what was converted and compare. Raises `Refused` when an identity may not be worn any more."""
        try:
            for step in steps:
                await self._take(step, checkpoints)
                await asyncio.sleep(0)  # the other medium has its turn
        finally:
            await self._close()

    async def _take(self, step: Step, checkpoints: Mapping[int, EntryId]) -> None:
        if step.entry is not None:
            await self._bus.publish(self._streams[0], step.id, step.entry.fields)
        if step.made is not None:
            await self._bus.publish(self._streams[1], step.id, pack(step.made.entry.header, b""))
        if step.epoch is None:
            self._tally.dropped += 1
            return
        if step.entry is None:
            self._tally.lacking.append(step.id)
            self._settled = step.id
            return
        await self._pace(step.id)
        worn = None if step.made is None else step.made.entry.header.worn
        converter = await self._owner(step.epoch, worn, checkpoints)
        self._settled = step.id
        self._tally.fed += 1
        await self._convert(converter, step, step.made)

    async def _convert(self, converter: Converter, step: Step, made: Made | None) -> None:
        pts_us = 0
        try:
            entry = _readable(step)
            pts_us = entry.header.pts_us
            now = await converter.convert(entry)
        except InputRejected as error:
            self._tally.failed(step, pts_us, str(error))
            return
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; that it does so now is the finding
            self._tally.failed(step, pts_us, repr(error))
            return
        if made is not None:
            outcome = converter.processed(entry, runtime_us=0, epoch=step.epoch or 0)
            self._tally.unsaid += made.entry.header.worn is None
            self._tally.compare(step, pts_us, made, now, outcome)

    async def _owner(self, epoch: int, worn: tuple[str, ...] | None, checkpoints: Mapping[int, EntryId]) -> Converter:
        """Return the converter of the owner with this epoch, wearing what it wore."""
        if self._converter is None or epoch != self._epoch:
            await self._close()
            self._converter, self._epoch = self._make(self._lease(epoch)), epoch
            self._tally.owners += 1
            self._worn = self._worn_at_first
            await self._permitted(self._worn if worn is None else worn)
            await self._converter.open()
            await self._wear(self._converter, worn)
            await self._converter.prime(max(self._settled, checkpoints.get(epoch, ZERO)))
        elif worn is not None and worn != self._worn:
            self._tally.changes += 1
            await self._permitted(worn)
            await self._wear(self._converter, worn)
        return self._converter

    async def _wear(self, converter: Converter, worn: tuple[str, ...] | None) -> None:
        if worn is None or worn == self._worn:
            return
        self._worn = worn
        video = self._medium.kind is Kind.VIDEO
        await converter.change(SettingsChanged(faces=worn) if video else SettingsChanged(voice=worn[0] if worn else ""))

    @property
    def _worn_at_first(self) -> tuple[str, ...]:
        if self._medium.kind is Kind.VIDEO:
            return self._record.faces
        return (self._record.voice,) if self._record.voice else ()

    async def _permitted(self, worn: Iterable[str]) -> None:
        for identity_id in worn:
            await self._permit("face" if self._medium.kind is Kind.VIDEO else "voice", identity_id)

    @property
    def _streams(self) -> tuple[str, str]:
        keys = SessionKeys(self._record.sid)
        if self._medium.kind is Kind.VIDEO:
            return keys.video_in, keys.video_out
        return keys.audio_in, keys.audio_out

    def _lease(self, epoch: int) -> Lease:
        keys = SessionKeys(self._record.sid)
        fence = Fence(keys.epoch, self._medium.kind, epoch)
        planes = Planes(self._bus, self._bus)
        return Lease(self._medium.kind, keys, self._record, "replay", fence, planes, SystemClock())

    async def _close(self) -> None:
        if self._converter is not None:
            await self._converter.close()
            self._converter = None


def _readable(step: Step) -> MediaEntry:
    if step.entry is None:
        raise CodecError(f"input {step.id} is not recorded")
    return unpack(step.entry.id, step.entry.fields)
