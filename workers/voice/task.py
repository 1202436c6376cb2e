"""Sound's part of the media task: PCM16 in, engine, PCM16 out, in order, with the engine's lookahead taken off."""

import numpy as np

from schemas.errors import CodecError, InputRejected
from schemas.events import AudioProcessed, AudioSkipped, DropReason
from schemas.facts import SettingsChanged
from schemas.identity_store import IdentityStore
from schemas.ids import ZERO, EntryId
from schemas.media import SAMPLE_RATE, MediaEntry, output_header, pcm_duration_us, unpack
from schemas.task import Lease
from workers.engine_thread import EngineThread
from workers.media_task import Converted
from workers.templates import open_worn
from workers.voice.engine import Pcm, VoiceEngine, VoiceResult, VoiceStream

_QUANTUM = 512  # samples: every rung of the chunk ladder is a multiple
_PRIME_PAGE = 128  # chunks: 12 s of the smallest
_SEAM_US = 2_000  # clients' clocks wobble by less; a chunk that is missing is 96 ms at least
_FADE = 80  # samples, 5 ms: the sound starts again after a gap, and would click


class VoiceConverter:
    """Implements `Converter` for chunks of sound."""

    def __init__(self, lease: Lease, *, engine: VoiceEngine, thread: EngineThread, identities: IdentityStore) -> None:
        """Prepare; `open` makes the engine's stream."""
        self._lease, self._engine, self._thread, self._identities = lease, engine, thread, identities
        self._stream: VoiceStream | None = None
        self._voice = lease.session.voice
        self._done: VoiceResult | None = None
        self._settled = ZERO
        self._next_pts_us: int | None = None

    @property
    def streams(self) -> tuple[str, str]:
        """Sound in, sound out."""
        return self._lease.keys.audio_in, self._lease.keys.audio_out

    async def open(self) -> None:
        """Open the engine's stream with the template of the voice that is worn."""
        self._stream = await open_worn(
            self._identities,
            self._voice,
            kind="voice",
            engine=self._engine.name,
            open_with=lambda template: self._thread.run(self._engine.open, template),
        )

    async def prime(self, checkpoint: EntryId) -> None:
        """Feed the stream the last input that a predecessor converted: its context and its lookahead."""
        self._settled = checkpoint
        stream = self._opened
        wanted = stream.context
        chunks: list[bytes] = []
        page = await self._lease.planes.media.entries(
            self.streams[0], until=checkpoint, count=_PRIME_PAGE, newest_first=True
        )
        for entry in page:
            if wanted <= 0:
                break
            try:
                data = unpack(entry.id, entry.fields).data
            except CodecError:  # it was reported as invalid in its turn
                continue
            chunks.append(data[: len(data) // 2 * 2])
            wanted -= len(data) // 2
        if chunks:
            await self._thread.run(stream.prime, samples(b"".join(reversed(chunks))))

    @property
    def _opened(self) -> VoiceStream:
        if self._stream is None:
            raise RuntimeError("convert before open")
        return self._stream

    async def change(self, settings: SettingsChanged) -> None:
        """Speak with another voice from the next chunk on, knowing the speaker already."""
        if settings.voice is not None and settings.voice != self._voice:
            self._voice = settings.voice
            await self.open()
            await self.prime(self._settled)

    async def convert(self, entry: MediaEntry) -> Converted:
        """Convert one chunk. Raises `InputRejected` for a length that is not on the chunk ladder's grid."""
        pcm = samples(entry.data)
        if pcm.size == 0 or pcm.size % _QUANTUM:
            raise InputRejected(f"chunk has {pcm.size} samples; expected a multiple of {_QUANTUM}", code="bad_pcm")
        stream = self._opened
        resumed = self._next_pts_us is not None and abs(entry.header.pts_us - self._next_pts_us) > _SEAM_US
        if resumed:
            # What was held back by the lookahead is sound from before the gap: it must not come out after it.
            await self._thread.run(stream.prime, np.zeros(-(-stream.lookahead // _QUANTUM) * _QUANTUM, np.int16))
        self._done = await self._thread.run(stream.process, pcm)
        self._next_pts_us = entry.header.pts_us + pcm_duration_us(entry.data)
        self._settled = entry.id
        sound = fade_in(self._done.pcm) if resumed else self._done.pcm
        header = output_header(
            entry.header,
            pts_us=self._output_pts_us(entry),
            sent_us=self._lease.clock.now_ms() * 1000,
        )
        return Converted(header, sound.astype("<i2", copy=False).tobytes())

    def _output_pts_us(self, entry: MediaEntry) -> int:
        """Return the media time of the sound that goes out when `entry` comes in."""
        return entry.header.pts_us - self._opened.lookahead * 1_000_000 // SAMPLE_RATE

    def processed(self, entry: MediaEntry, *, runtime_us: int, epoch: int) -> AudioProcessed:
        """Return the outcome of the chunk just converted; its pts is that of the sound that went out."""
        if self._done is None:
            raise RuntimeError("processed before convert")
        return AudioProcessed(
            id=str(entry.id),
            pts_us=self._output_pts_us(entry),
            epoch=epoch,
            duration_us=pcm_duration_us(entry.data),
            runtime_us=runtime_us,
            stages_us=dict(self._done.stages_us),
            outcome=self._done.outcome,
        )

    def dropped(self, entry_id: EntryId, pts_us: int, reason: DropReason, *, epoch: int) -> AudioSkipped:
        """Return the outcome of a chunk that is not published."""
        return AudioSkipped(id=str(entry_id), pts_us=pts_us, epoch=epoch, reason=reason)

    async def close(self) -> None:
        """Forget the engine's stream."""
        self._stream = None


def samples(pcm: bytes) -> Pcm:
    """Return PCM16 little-endian bytes as (N,) int16; raises `InputRejected` on an odd length."""
    if len(pcm) % 2:
        raise InputRejected(f"PCM has {len(pcm)} bytes; 16-bit samples need an even number", code="bad_pcm")
    return np.frombuffer(pcm, "<i2").astype(np.int16)


def fade_in(pcm: Pcm) -> Pcm:
    """Return (N,) int16 with a linear ramp over the first 5 ms."""
    faded = pcm.copy()
    ramp = np.linspace(0.0, 1.0, min(_FADE, faded.size), endpoint=False)
    faded[: ramp.size] = np.rint(faded[: ramp.size] * ramp).astype(np.int16)
    return faded
