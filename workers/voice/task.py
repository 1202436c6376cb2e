"""Sound's part of the media task: PCM16 in, engine, PCM16 out, in order, with the engine's lookahead taken off.

What a chunk's header says becomes of it:

| `voice` | the session's `on_voice_fail` | goes out | outcome |
|---|---|---|---|
| `on` | | the engine's sound | the engine's |
| `through` | `passthrough`, while a voice is worn | the chunk itself, delayed by the lookahead | `passed` |
| anything else | | silence | `silenced` |

Where one follows another the sound fades over 5 ms. When conversion resumes, what went by is fed to the stream first.
"""

from dataclasses import dataclass, field

import numpy as np

from schemas.errors import CodecError, InputRejected
from schemas.events import AudioProcessed, AudioSkipped, DropReason
from schemas.facts import SettingsChanged
from schemas.identity_store import IdentityStore
from schemas.ids import ZERO, EntryId
from schemas.media import (
    SAMPLE_RATE,
    VOICE_ON,
    VOICE_SILENT,
    VOICE_THROUGH,
    MediaEntry,
    MediaHeader,
    output_header,
    pcm_duration_us,
    unpack,
)
from schemas.task import Lease
from workers.engine_thread import EngineThread
from workers.faults import NO_FAULTS, FaultPlan
from workers.media_task import Converted
from workers.templates import open_worn
from workers.voice.bypass import Bypass
from workers.voice.engine import Pcm, VoiceEngine, VoiceOutcome, VoiceStream

_QUANTUM = 512  # samples: every rung of the chunk ladder is a multiple
_PRIME_PAGE = 128  # chunks: 12 s of the smallest
_SEAM_US = 2_000  # clients' clocks wobble by less; a chunk that is missing is 96 ms at least
_FADE = 80  # samples, 5 ms: where the sound starts again or changes its source, it would click
_PASSED = "passed"


@dataclass(frozen=True, slots=True)
class _Sound:
    pcm: Pcm
    outcome: str
    stages_us: dict[str, int] = field(default_factory=dict)


class VoiceConverter:
    """Implements `Converter` for chunks of sound."""

    def __init__(
        self,
        lease: Lease,
        *,
        engine: VoiceEngine,
        thread: EngineThread,
        identities: IdentityStore,
        faults: FaultPlan = NO_FAULTS,
    ) -> None:
        """Prepare; `open` makes the engine's stream. `faults` slow the stages that they name."""
        self._lease, self._engine, self._thread, self._identities = lease, engine, thread, identities
        self._faults = faults
        self._may_pass = lease.session.on_voice_fail == "passthrough"
        self._stream: VoiceStream | None = None
        self._bypass = Bypass(0)
        self._voice = lease.session.voice
        self._done: _Sound | None = None
        self._mode = VOICE_ON
        self._sounded: Pcm | None = None  # what went out last
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
            [self._voice] if self._voice else [],
            kind="voice",
            engine=self._engine.name,
            open_with=lambda templates: self._thread.run(self._engine.open, templates[0] if templates else None),
        )
        if self._bypass.lookahead != self._stream.lookahead:
            self._bypass = Bypass(self._stream.lookahead)

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
        mode, header = self._mode_of(entry.header), entry.header
        gap = self._next_pts_us is not None and abs(header.pts_us - self._next_pts_us) > _SEAM_US
        fresh = gap or mode != self._mode
        if mode == VOICE_ON:
            self._done = await self._thread.run(self._work, pcm, header.pts_us, gap=gap)
        else:
            self._done = self._go_by(pcm, mode, gap=gap, fresh=fresh)
        self._next_pts_us = header.pts_us + pcm_duration_us(entry.data)
        self._settled, self._mode = entry.id, mode
        sound = fade(self._done.pcm, None if gap else self._sounded) if fresh else self._done.pcm
        self._sounded = sound
        header = output_header(
            header,
            pts_us=self._output_pts_us(entry),
            sent_us=self._lease.clock.now_ms() * 1000,
            worn=(self._voice,) if self._voice else (),
        )
        return Converted(header, sound.astype("<i2", copy=False).tobytes())

    def _mode_of(self, header: MediaHeader) -> str:
        """Return what becomes of a chunk: what its header says, as far as the session allows it."""
        # Without a voice silence is wanted, and nothing fails: one that was taken off must not come back as one's own.
        may_pass = self._may_pass and self._voice != ""
        if header.voice == VOICE_ON or (header.voice == VOICE_THROUGH and may_pass):
            return header.voice
        return VOICE_SILENT

    def _work(self, pcm: Pcm, pts_us: int, *, gap: bool) -> _Sound:
        """Convert (N,) samples, on the engine thread."""
        stream, past = self._opened, self._bypass.take_past()
        if past.size:
            stream.prime(past)
        if gap:
            # What was held back by the lookahead is sound from before the gap: it must not come out after it.
            stream.prime(np.zeros(-(-stream.lookahead // _QUANTUM) * _QUANTUM, np.int16))
        done = stream.process(pcm)
        figures_us = dict(done.stages_us)
        if done.outcome is VoiceOutcome.CONVERTED:
            figures_us = self._faults.slow(figures_us, pts_us)
        return _Sound(done.pcm, done.outcome, figures_us)

    def _go_by(self, pcm: Pcm, mode: str, *, gap: bool, fresh: bool) -> _Sound:
        """Let (N,) samples pass, or silence instead of them."""
        if gap:
            self._bypass.forget()
        if mode == VOICE_THROUGH:
            return _Sound(self._bypass.through(pcm, fade(pcm) if fresh else pcm), _PASSED)
        return _Sound(self._bypass.silent(pcm), VoiceOutcome.SILENCED)

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
            stages_us=self._done.stages_us,
            outcome=self._done.outcome,
        )

    def dropped(self, entry: MediaEntry, reason: DropReason, *, epoch: int) -> AudioSkipped:
        """Return the outcome of a chunk that is not published."""
        return AudioSkipped(id=str(entry.id), pts_us=entry.header.pts_us, epoch=epoch, reason=reason)

    async def close(self) -> None:
        """Forget the engine's stream."""
        self._stream = None


def samples(pcm: bytes) -> Pcm:
    """Return PCM16 little-endian bytes as (N,) int16; raises `InputRejected` on an odd length."""
    if len(pcm) % 2:
        raise InputRejected(f"PCM has {len(pcm)} bytes; 16-bit samples need an even number", code="bad_pcm")
    return np.frombuffer(pcm, "<i2").astype(np.int16)


def fade(pcm: Pcm, before: Pcm | None = None) -> Pcm:
    """Return (N,) int16 that swells to `pcm` over the first 5 ms, while the sound before it comes to rest.

    Both by the cubic Hermite basis, so that neither level nor slope jumps; of `before` (M >= 2,) the last two samples
    count, None is silence.
    """
    faded = pcm.copy()
    t = np.arange(1, min(_FADE, pcm.size) + 1) / min(_FADE, pcm.size)
    level, slope = (0.0, 0.0) if before is None else (float(before[-1]), float(before[-1]) - float(before[-2]))
    rest = level * (1 + 2 * t) * (1 - t) ** 2 + slope * t.size * t * (1 - t) ** 2
    swell = faded[: t.size] * t**2 * (3 - 2 * t)
    faded[: t.size] = np.rint(np.clip(rest + swell, -32768, 32767)).astype(np.int16)
    return faded
