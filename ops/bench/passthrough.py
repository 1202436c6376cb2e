"""A converter that returns its input, to measure or to torture everything around the engines.

It shows the raw face and the raw voice, so nothing that serves people can select it: there is no setting that names
it, only the benchmark and the fault tests build it.
"""

import time

from schemas.events import AudioProcessed, AudioSkipped, DropReason, Outcome, VideoDropped, VideoProcessed
from schemas.facts import SettingsChanged
from schemas.ids import EntryId
from schemas.media import MediaEntry, pcm_duration_us
from schemas.names import Kind
from schemas.task import Lease, SessionTask, TaskFactory
from workers.engine_thread import EngineThread
from workers.freshness import Limits
from workers.media_task import Converted, MediaTask


class PassthroughConverter:
    """Implements `Converter` for frames or sound; takes `cost_s` an input."""

    def __init__(self, lease: Lease, *, thread: EngineThread, cost_s: float) -> None:
        """Pretend to work for `cost_s` seconds an input, on the engine thread."""
        self._thread, self._cost_s = thread, cost_s
        keys = lease.keys
        self._video = lease.kind is Kind.VIDEO
        self.streams = (keys.video_in, keys.video_out) if self._video else (keys.audio_in, keys.audio_out)

    async def open(self) -> None:
        """Nothing to load."""

    async def prime(self, checkpoint: EntryId) -> None:
        """Nothing to warm up."""

    async def change(self, settings: SettingsChanged) -> None:
        """Nothing to change."""

    async def convert(self, entry: MediaEntry) -> Converted:
        """Return the input."""
        if self._cost_s:
            await self._thread.run(time.sleep, self._cost_s)
        return Converted(entry.header, entry.data)

    def processed(self, entry: MediaEntry, *, runtime_us: int, epoch: int) -> Outcome:
        """Return the outcome of an input that was published."""
        if self._video:
            return VideoProcessed(
                id=str(entry.id),
                pts_us=entry.header.pts_us,
                epoch=epoch,
                runtime_us=runtime_us,
                stages_us={},
                faces=0,
                detector_ran=False,
                confidence_pm=0,
                outcome="passed",
            )
        return AudioProcessed(
            id=str(entry.id),
            pts_us=entry.header.pts_us,
            epoch=epoch,
            runtime_us=runtime_us,
            stages_us={},
            duration_us=pcm_duration_us(entry.data),
            outcome="converted",
        )

    def dropped(self, entry: MediaEntry, reason: DropReason, *, epoch: int) -> Outcome:
        """Return the outcome of an input that was not."""
        kind = VideoDropped if self._video else AudioSkipped
        return kind(id=str(entry.id), pts_us=entry.header.pts_us, epoch=epoch, reason=reason)

    async def close(self) -> None:
        """Nothing to release."""


def passthrough_factory(thread: EngineThread, *, cost_s: float, limits: Limits, retention_ms: int) -> TaskFactory:
    """Return the maker of pass-through tasks."""

    def make(lease: Lease) -> SessionTask:
        converter = PassthroughConverter(lease, thread=thread, cost_s=cost_s)
        return MediaTask(lease, converter, limits=limits, retention_ms=retention_ms)

    return make
