"""One session's stream: chunks in, windows through the networks, joined blocks out; silence whenever that fails."""

import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator

import numpy as np
import structlog

from workers.voice.engine import SAMPLE_RATE, Pcm, VoiceOutcome, VoiceResult
from workers.voice.gate import SilenceGate
from workers.voice.grid import BLOCK
from workers.voice.grid import LOOKAHEAD as GATE_LOOKAHEAD
from workers.voice.neural.chain import Target, VoiceChain
from workers.voice.neural.content import closed, stretch
from workers.voice.neural.formant import synthesise
from workers.voice.neural.level import LevelMatch, to_pcm
from workers.voice.neural.pitch import MeanMatch, Track, transpose
from workers.voice.neural.resample import DELAY, Decimator
from workers.voice.neural.retrieval import retrieve
from workers.voice.neural.rmvpe import FFT, MULTIPLE
from workers.voice.neural.windows import FRAME, GRID, LARGEST, LOOKAHEAD, History, Sound, Window, plan
from workers.voice.stream import check

CONTEXT = 4 * SAMPLE_RATE // BLOCK * BLOCK  # samples: enough speech to know how high the speaker speaks

_STAGES = ("encode", "f0", "convert", "post")
_WARM = 2  # blocks before the end of a primed past that are converted: the join's tail and the level
_log = structlog.get_logger(__name__)


class NeuralStream:
    """Content, pitch, synthesis and joining of one session."""

    lookahead = LOOKAHEAD
    context = CONTEXT

    def __init__(self, chain: VoiceChain, target: Target) -> None:
        """Start with silence behind."""
        self._chain, self._target = chain, target
        self._stages = (*_STAGES, "index") if target.index else _STAGES
        self._restart()

    def _restart(self) -> None:
        longest = plan(0, LARGEST, context=self._chain.context, delay=DELAY)
        frames = -(-longest.frames // MULTIPLE) * MULTIPLE
        self._history = History(frames * FRAME + FFT + GRID)
        self._gate = SilenceGate()
        # The gate's ramps are those of the block 32 ms behind; this stream's block lies further behind.
        self._gains: deque[Sound | None] = deque([None] * ((LOOKAHEAD - GATE_LOOKAHEAD) // BLOCK))
        self._pitch = self._chain.pitch()
        self._match = MeanMatch(self._target.log_f0)
        self._heard = 0  # absolute 10 ms frame up to which the speaker's pitch was learned
        self._splicer = self._chain.splicer()
        self._decimator = Decimator(self._chain.voice.rate)
        self._level = LevelMatch()

    def prime(self, pcm: Pcm) -> None:
        """Hear past input, at most `context` samples of it; only its end is converted, to have something to join to.

        Positions, and with them the noise and the grid, count from the first sample primed, and the phase of a
        predecessor's sine source is not known: the stream goes on at the same pitch and level, not bit for bit, and
        the takeover itself may be heard as one click.
        """
        whole = pcm[len(pcm) % BLOCK :][-CONTEXT:]
        spent = Counter(dict.fromkeys(self._stages, 0))
        parts = list(self._parts(whole))
        try:
            for left, part in zip(range(len(parts), 0, -1), parts, strict=True):
                self._part(part, spent, convert=left <= _WARM)
        except Exception as error:  # noqa: BLE001 - as in `process`
            self._failed(error)

    def process(self, pcm: Pcm) -> VoiceResult:
        """Convert a chunk of any multiple of 512 samples.

        Raises `InputRejected` for another dtype, shape or length. Whatever else goes wrong, the chunk is silenced and
        the stream starts anew: the original is never returned.
        """
        check(pcm)
        spent = Counter(dict.fromkeys(self._stages, 0))
        try:
            parts = [(len(part), self._part(part, spent, convert=True)) for part in self._parts(pcm)]
        except Exception as error:  # noqa: BLE001 - fail closed: whatever broke, nothing of the original may pass
            self._failed(error)
            return VoiceResult(np.zeros(len(pcm), np.int16), VoiceOutcome.SILENCED, dict.fromkeys(self._stages, 0))
        stages_us = {stage: nanoseconds // 1000 for stage, nanoseconds in spent.items()}
        if all(sound is None for _, sound in parts):
            return VoiceResult(np.zeros(len(pcm), np.int16), VoiceOutcome.GATED, stages_us)
        whole = [np.zeros(length, np.float32) if sound is None else sound for length, sound in parts]
        return VoiceResult(to_pcm(np.concatenate(whole)), VoiceOutcome.CONVERTED, stages_us)

    def _failed(self, error: Exception) -> None:
        # The place, not the traceback: a traceback with local variables would write somebody's speech to the log.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        _log.error("voice conversion failed; chunk silenced", error=repr(error), where=f"{frame.name}:{frame.lineno}")
        self._restart()

    def _parts(self, pcm: Pcm) -> Iterator[Pcm]:
        step = BLOCK if self._chain.settings.fixed_blocks else LARGEST
        return (pcm[at : at + step] for at in range(0, len(pcm), step))

    def _part(self, pcm: Pcm, spent: Counter[str], *, convert: bool) -> Sound | None:
        """Return the converted sound that is due when `pcm` arrives, None for silence."""
        clock = _Stopwatch(spent)
        sound = np.asarray(pcm, np.float32) / np.float32(32768)
        blocks = np.split(sound, len(pcm) // BLOCK)
        gains = [self._hear(block) for block in blocks]
        clock.lap("encode")
        for block in blocks:
            self._pitch.hear(block)
        clock.lap("f0")
        if all(gain is None for gain in gains):
            self._splicer.reset()
            self._decimator.reset()
            return None
        window = plan(self._history.end, len(pcm), context=self._chain.context, delay=DELAY)
        f0 = self._pitch.track(self._history, window)
        self._learn_pitch(f0, window)
        clock.lap("f0")
        if not convert:
            return None
        heard = self._history.read(window.start, window.start + window.samples)
        content = closed(self._chain.content(heard))
        clock.lap("encode")
        if self._target.index:
            content = retrieve(content, self._target.index, self._chain.settings.index_rate)
            clock.lap("index")
        made = synthesise(
            self._chain.voice,
            stretch(content, window.samples),
            transpose(f0, self._semitones),
            window.first_frame,
            self._chain.settings.formant_semitones,
        )
        clock.lap("convert")
        joined = self._finish(made, window)
        ramps = [np.zeros(BLOCK, np.float32) if gain is None else gain for gain in gains]
        joined = joined * np.concatenate(ramps)
        clock.lap("post")
        return joined

    def _hear(self, block: Sound) -> Sound | None:
        """Take in 512 samples; return the gain of the 512 that are due now."""
        self._history.push(block)
        gain = self._gate.push(block.astype(np.float64))
        self._gains.append(None if gain is None else gain.astype(np.float32))
        return self._gains.popleft()

    def _learn_pitch(self, f0: Track, window: Window) -> None:
        """Learn from the frames of the block that no earlier window had."""
        until = (window.emit + window.block) // FRAME
        first = max(self._heard, window.emit // FRAME, window.first_frame)
        self._match.hear(f0[first - window.first_frame : until - window.first_frame])
        self._heard = until

    @property
    def _semitones(self) -> float:
        settings = self._chain.settings
        return settings.semitones + (self._match.semitones if settings.match_pitch else 0.0)

    def _finish(self, sound: Sound, window: Window) -> Sound:
        """Return the block's 16 kHz sound, joined, at the input's level."""
        rate = self._chain.voice.rate
        first, block = ((samples * rate) // SAMPLE_RATE for samples in (window.emit - window.start, window.block))
        joined = self._splicer.push(sound[first : first + block + self._splicer.beyond])
        output = self._decimator.push(joined)
        if not self._chain.settings.match_level:
            return output
        due = window.emit - DELAY
        return self._level.push(self._history.read(due, due + window.block), output)


class _Stopwatch:
    """Adds the time since the last lap to a stage."""

    def __init__(self, spent: Counter[str]) -> None:
        self._spent = spent
        self._last = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        now = time.perf_counter_ns()
        self._spent[stage] += now - self._last
        self._last = now
