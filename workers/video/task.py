"""Video's part of the media task: JPEG in, engine, JPEG out, with the parameters stamped on the frame."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import cv2
import simplejpeg

from schemas.errors import CodecError, InputRejected
from schemas.events import DropReason, VideoDropped, VideoProcessed
from schemas.facts import SettingsChanged
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import MediaEntry, Place, output_header, unpack
from schemas.task import Lease
from workers.faults import NO_FAULTS, FaultPlan
from workers.media_task import Converted
from workers.templates import open_worn
from workers.video.batcher import FaceBatcher
from workers.video.engine import Bystanders, FaceResult, FaceSession, FaceSettings, Frame, OnMiss

R = TypeVar("R")

MAX_SIDE = 1920
"""Ingress refuses larger frames; a decoder that trusts its input is one bug away from a decompression bomb."""


@dataclass(frozen=True, slots=True)
class _Done:
    result: FaceResult
    stages_us: dict[str, int]


class VideoConverter:
    """Implements `Converter` for frames."""

    def __init__(
        self,
        lease: Lease,
        *,
        faces: FaceBatcher,
        identities: IdentityStore,
        faults: FaultPlan = NO_FAULTS,
    ) -> None:
        """Prepare; `open` makes the engine's session. `faults` slow the stages that they name."""
        self._lease, self._faces, self._identities, self._faults = lease, faces, identities, faults
        self._session: FaceSession | None = None
        self._worn = lease.session.faces
        self._fidelity: float | None = None
        self._done: _Done | None = None
        self._places: tuple[Place, ...] = ()  # where people were before the last change of what they wear

    @property
    def streams(self) -> tuple[str, str]:
        """Frames in, frames out."""
        return self._lease.keys.video_in, self._lease.keys.video_out

    async def open(self) -> None:
        """Open the engine's session with the templates of the faces that are worn."""
        record = self._lease.session
        settings = FaceSettings(record.max_faces, OnMiss(record.on_miss), Bystanders(record.bystanders))
        self._session = await open_worn(
            self._identities,
            self._worn,
            kind="face",
            engine=self._faces.engine.name,
            open_with=lambda templates: self._faces.thread.run(self._faces.engine.open, settings, templates),
        )

    async def prime(self, checkpoint: EntryId) -> None:
        """Learn who stood where; a tracker finds the faces again in the first frame, but not whose they are."""
        if self._session is None or not self._differ:
            return
        for entry in await self._lease.planes.media.entries(
            self.streams[1], until=checkpoint, count=1, newest_first=True
        ):
            with contextlib.suppress(CodecError):  # a newer build's: everyone is dressed from left to right again
                self._session.remember(unpack(entry.id, entry.fields).header.places)

    async def change(self, settings: SettingsChanged) -> None:
        """Wear another face, or the same otherwise tuned, from the next frame on."""
        if settings.fidelity_pm is not None:
            self._fidelity = settings.fidelity_pm / 1000
        if settings.faces is not None and settings.faces != self._worn:
            self._worn = settings.faces
            if self._session is not None:
                self._places = self._session.places or self._places
            await self.open()
            if self._session is not None:
                self._session.remember(self._places)

    @property
    def _differ(self) -> bool:
        """Whether followed faces differ in what they wear, so that it matters who wears what: some may wear none."""
        return len(set(self._worn)) > 1 or 0 < len(self._worn) < self._lease.session.max_faces

    async def convert(self, entry: MediaEntry) -> Converted:
        """Swap one frame. Raises `InputRejected` when the JPEG does not decode.

        JPEG is coded beside the engine's thread, so that a batch never waits for a codec.
        """
        if self._session is None:
            raise RuntimeError("convert before open")
        header = entry.header
        self._session.tuning.rung, self._session.tuning.fidelity = header.rung, self._fidelity
        frame, decode_us = await asyncio.to_thread(_timed, lambda: fit(decode(entry.data), header.size))
        result = await self._faces.process(self._session, frame, header.pts_us)
        data, encode_us = await asyncio.to_thread(
            _timed, lambda: simplejpeg.encode_jpeg(result.frame, header.quality, "BGR", "420")
        )
        stages_us = {"decode": decode_us, **result.stages_us, "encode": encode_us}
        if self._faults.faults:
            stages_us = await self._faces.thread.run(self._faults.slow, stages_us, header.pts_us, max(frame.shape[:2]))
        self._done = _Done(result, stages_us)
        sent_us = self._lease.clock.now_ms() * 1000
        places = self._session.places if self._differ else ()
        made = output_header(header, pts_us=header.pts_us, sent_us=sent_us, worn=self._worn, places=places)
        return Converted(made, data)

    def processed(self, entry: MediaEntry, *, runtime_us: int, epoch: int) -> VideoProcessed:
        """Return the outcome of the frame just converted."""
        if self._done is None:
            raise RuntimeError("processed before convert")
        done, result = self._done, self._done.result
        return VideoProcessed(
            id=str(entry.id),
            pts_us=entry.header.pts_us,
            rung=entry.header.rung,
            epoch=epoch,
            runtime_us=runtime_us,
            stages_us=done.stages_us,
            faces=result.faces,
            detector_ran=result.detector_ran,
            confidence_pm=result.confidence_pm,
            outcome=result.outcome,
        )

    def dropped(self, entry: MediaEntry, reason: DropReason, *, epoch: int) -> VideoDropped:
        """Return the outcome of a frame that is not published."""
        header = entry.header
        return VideoDropped(id=str(entry.id), pts_us=header.pts_us, rung=header.rung, epoch=epoch, reason=reason)

    async def close(self) -> None:
        """Forget the engine's session."""
        self._session = None


def _timed(call: Callable[[], R]) -> tuple[R, int]:
    """Return what `call` returns, and the microseconds that it took."""
    began = time.perf_counter_ns()
    made = call()
    return made, (time.perf_counter_ns() - began) // 1000


def decode(jpeg: bytes) -> Frame:
    """Return the BGR frame (H, W, 3) uint8; raises `InputRejected` on corrupt, truncated or oversized data."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(jpeg)
        if max(height, width) > MAX_SIDE:
            raise InputRejected(f"frame is {width}x{height}; at most {MAX_SIDE} pixels a side", code="bad_frame")
        frame: Frame = simplejpeg.decode_jpeg(jpeg, "BGR", strict=True)
    except ValueError as error:
        raise InputRejected(f"JPEG does not decode: {error}", code="bad_frame") from None
    return frame


def fit(frame: Frame, size: int) -> Frame:
    """Shrink so that the longer side is at most `size` pixels (0: as it is); even sides, as chroma wants them."""
    height, width = frame.shape[:2]
    longer = max(height, width)
    if size == 0 or longer <= size:
        return frame
    even = (max(2, round(width * size / longer / 2) * 2), max(2, round(height * size / longer / 2) * 2))
    shrunk: Frame = cv2.resize(frame, even, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return shrunk
