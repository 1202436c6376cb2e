"""One session's stream: chunks in, the target's voice out, silence whenever that cannot be had."""

import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import numpy as np
import structlog

from schemas.errors import InputRejected
from workers.voice.analysis import Frames, StreamingAnalysis, to_samples
from workers.voice.engine import SAMPLE_RATE, Pcm, VoiceOutcome, VoiceResult
from workers.voice.gate import SilenceGate
from workers.voice.grid import BLOCK, LOOKAHEAD, Samples
from workers.voice.synthesis import PulseNoiseSynthesiser

CONTEXT = 8 * SAMPLE_RATE  # samples: enough speech to know the source again, for a quarter of a second of work

_STAGES = ("encode", "f0", "convert", "post")
_KNEE = 0.7  # of full scale: above it the limiter bends
_log = structlog.get_logger(__name__)


class FrameMapping(Protocol):
    """Learns a source while it speaks, and converts its frames."""

    def learn(self, frames: Frames) -> None:
        """Learn the source's voice."""

    def convert(self, frames: Frames) -> Frames:
        """Return the frames in the target's voice."""
        ...


class SilentStream:
    """The stream of a session that has no voice to turn into: everything is silenced."""

    lookahead = LOOKAHEAD
    context = 0

    def prime(self, pcm: Pcm) -> None:
        """Need nothing of the past."""

    def process(self, pcm: Pcm) -> VoiceResult:
        """Return silence."""
        check(pcm)
        return VoiceResult(np.zeros(len(pcm), np.int16), VoiceOutcome.SILENCED, dict.fromkeys(_STAGES, 0))


class EmbeddedStream:
    """Analysis, mapping and synthesis of one session, in blocks of 512 samples (see `grid`)."""

    lookahead = LOOKAHEAD
    context = CONTEXT

    def __init__(self, new_mapping: Callable[[], FrameMapping]) -> None:
        """Start with silence behind; `new_mapping` is called now, and again after a failure."""
        self._new_mapping = new_mapping
        self._restart()

    def _restart(self) -> None:
        self._analysis = StreamingAnalysis()
        self._gate = SilenceGate()
        self._mapping = self._new_mapping()
        self._synthesiser = PulseNoiseSynthesiser()

    def prime(self, pcm: Pcm) -> None:
        """Run past input, at most `context` samples of it, through every state without producing output.

        The pulse phase restarts at each onset of voice and the noise depends on the input alone, so after a pause
        within `pcm` all that differs from a stream that ran all along is what that one had learned before.
        """
        whole = pcm[len(pcm) % BLOCK :][-CONTEXT:]
        if len(whole):
            self.process(whole)

    def process(self, pcm: Pcm) -> VoiceResult:
        """Convert a chunk of any multiple of 512 samples.

        Raises `InputRejected` for another dtype, shape or length. Whatever else goes wrong, the chunk is silenced and
        the stream starts anew: the original is never returned.
        """
        check(pcm)
        spent = Counter(dict.fromkeys(_STAGES, 0))
        try:
            blocks = [self._convert(block, spent) for block in np.split(pcm, len(pcm) // BLOCK)]
        except Exception as error:  # noqa: BLE001 - fail closed: whatever broke, nothing of the original may pass
            # The place, not the traceback: a traceback with local variables would write somebody's speech to the log.
            frame = traceback.extract_tb(error.__traceback__)[-1]
            _log.error(
                "voice conversion failed; chunk silenced", error=repr(error), where=f"{frame.name}:{frame.lineno}"
            )
            self._restart()
            return VoiceResult(np.zeros(len(pcm), np.int16), VoiceOutcome.SILENCED, dict.fromkeys(_STAGES, 0))
        stages_us = {stage: nanoseconds // 1000 for stage, nanoseconds in spent.items()}
        if all(block is None for block in blocks):
            return VoiceResult(np.zeros(len(pcm), np.int16), VoiceOutcome.GATED, stages_us)
        sound = np.concatenate([np.zeros(BLOCK) if block is None else block for block in blocks])
        return VoiceResult(_to_pcm(sound), VoiceOutcome.CONVERTED, stages_us)

    def _convert(self, pcm: Pcm, spent: Counter[str]) -> Samples | None:
        """Return the converted block that is due when `pcm` (512,) arrives, None for silence."""
        started = time.perf_counter_ns()
        block = to_samples(pcm)
        gain = self._gate.push(block)
        if gain is None:
            self._analysis.skip(block)
            self._synthesiser.reset()
            spent["encode"] += time.perf_counter_ns() - started
            return None
        gated = time.perf_counter_ns()
        frames = self._analysis.push(block)
        analysed = time.perf_counter_ns()
        self._mapping.learn(frames)
        converted = self._mapping.convert(frames)
        mapped = time.perf_counter_ns()
        noise = np.random.Generator(np.random.Philox(zlib.crc32(pcm.tobytes())))
        sound = self._synthesiser.render(converted.f0, converted.log_power, noise) * gain
        if not np.isfinite(sound).all():
            raise FloatingPointError("synthesis produced numbers that are not finite")
        spent["f0"] += self._analysis.f0_ns
        spent["encode"] += gated - started + analysed - gated - self._analysis.f0_ns
        spent["convert"] += mapped - analysed
        spent["post"] += time.perf_counter_ns() - mapped
        return sound


def check(pcm: Pcm) -> None:
    """Raise `InputRejected` unless `pcm` is (N,) int16 with N a positive multiple of 512."""
    if pcm.dtype != np.int16 or pcm.ndim != 1 or not len(pcm) or len(pcm) % BLOCK:
        raise InputRejected(f"chunk is {pcm.dtype} {pcm.shape}; (N,) int16 with N a multiple of {BLOCK} is accepted")


def _to_pcm(sound: Samples) -> Pcm:
    """Return int16 samples; peaks above the knee are bent, none is cut."""
    size = np.abs(sound)
    bent = _KNEE + (1 - _KNEE) * np.tanh((size - _KNEE) / (1 - _KNEE))
    limited = np.where(size > _KNEE, np.copysign(bent, sound), sound)
    return np.asarray(np.rint(limited * 32767), np.int16)
