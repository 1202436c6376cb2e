"""The neural voice engine without its networks: what our chain costs, whether it grows, and how its joins sound.

The networks' answers are canned: features of zero, salience at one pitch, a tone whose phase starts with every window,
as the real sine source's does. So the figures are those of the chain alone, and need no model.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.demo.inputs import Choice, load
from workers.models.contract import Tensor
from workers.models.runtime import Runtime, resident_bytes
from workers.voice.engine import SAMPLE_RATE, Pcm, VoiceOutcome
from workers.voice.measure import click_ratio
from workers.voice.neural import rmvpe, swift
from workers.voice.neural.chain import Target, VoiceChain
from workers.voice.neural.content import CHANNELS, ContentEncoder, frame_count
from workers.voice.neural.enrolment import MOST_ROWS
from workers.voice.neural.f0 import NewPitchStream, TrackerStream
from workers.voice.neural.resample import DELAY
from workers.voice.neural.retrieval import ExactIndex
from workers.voice.neural.settings import NeuralVoiceSettings
from workers.voice.neural.stream import NeuralStream
from workers.voice.neural.synthesiser import Synthesiser

CHUNK = 3072  # samples: 192 ms
BUDGET_MS = 2.0
OVERLAPS_MS = (0, 10, 20, 30)
_RATE = 48_000
_HOP = _RATE // 100
_PITCH_HZ = 187.0  # no whole number of periods in any window step
_CLICK = 20.0
_NEAR, _HEARD = 160, 200  # samples either side of a join, and what the loudest of them must reach
_WARM = 20  # chunks


@dataclass
class NeuralVoiceFigures:
    """CPU milliseconds a chunk of 192 ms, medians, one core."""

    voice_overhead_ms: float = 0.0
    stages_ms: dict[str, float] = field(default_factory=dict)
    f0_ms: dict[str, float] = field(default_factory=dict)
    """Of the sources that need no download, their computation included."""
    index_ms: float = 0.0
    """Exact retrieval in the largest index of a template; its matrix product wants OPENBLAS_NUM_THREADS=1."""
    growth_mb: float | None = None
    splice_clicks: dict[str, float] = field(default_factory=dict)
    """Share of joins that click in a held tone, by overlap in ms."""
    speech_clicks: dict[str, float] = field(default_factory=dict)
    """The same in speech, of the joins that are heard, by a voice that is a sine of the speaker's pitch."""

    def as_json(self) -> dict[str, object]:
        """Return the published keys."""
        return {
            "voice_overhead_ms": self.voice_overhead_ms,
            "budget_ms": BUDGET_MS,
            "stages_ms": self.stages_ms,
            "f0_ms": self.f0_ms,
            "index_ms": self.index_ms,
            "growth_mb": self.growth_mb,
            "splice_clicks": self.splice_clicks,
            "speech_clicks": self.speech_clicks,
        }


def measure(chunks: int = 1000, progress: Callable[[int], None] = lambda _: None) -> NeuralVoiceFigures:
    """Run speech through the chain. The caller pins the process to one core first (`one_core`)."""
    figures = NeuralVoiceFigures()
    speech = np.resize(load(Choice(), 20).speech, (chunks + _WARM) * CHUNK)
    tracker = rmvpe.Rmvpe(_CannedSalience())
    spent, stages = _run(_stream(lambda: rmvpe.RmvpeStream(tracker)), speech, figures)
    figures.voice_overhead_ms = spent
    figures.stages_ms = stages
    progress(1)
    short = speech[: 120 * CHUNK]
    for name, pitch in _without_download().items():
        figures.f0_ms[name] = _run(_stream(pitch), short)[1]["f0"]
        progress(1)
    rows = np.random.default_rng(0).standard_normal((MOST_ROWS, CHANNELS))
    indexed = _stream(TrackerStream, NeuralVoiceSettings(index_rate=0.5), ExactIndex(rows))
    figures.index_ms = _run(indexed, short)[1]["index"]
    progress(1)
    tone = np.asarray(np.sin(2 * np.pi * 200 / SAMPLE_RATE * np.arange(len(short))) * 8000, np.int16)
    figures.splice_clicks = {str(overlap): _clicks(overlap, tone, _CannedVoice()) for overlap in OVERLAPS_MS}
    figures.speech_clicks = {str(overlap): _clicks(overlap, short, _Sine()) for overlap in OVERLAPS_MS}
    return figures


def _run(stream: NeuralStream, speech: Pcm, grown: NeuralVoiceFigures | None = None) -> tuple[float, dict[str, float]]:
    """Return median CPU milliseconds of the chunks that were converted, in all and by stage."""
    totals: list[float] = []
    stages: dict[str, list[int]] = {}
    before = None
    for at in range(0, len(speech), CHUNK):
        if at == _WARM * CHUNK:
            before = resident_bytes()
        started = time.thread_time()
        result = stream.process(speech[at : at + CHUNK])
        took = time.thread_time() - started
        if at >= _WARM * CHUNK and result.outcome is VoiceOutcome.CONVERTED:
            totals.append(took * 1000)
            for stage, us in result.stages_us.items():
                stages.setdefault(stage, []).append(us)
    after = resident_bytes()
    if grown is not None and before is not None and after is not None:
        grown.growth_mb = round((after - before) / 1e6, 2)
    return round(float(np.median(totals)), 3), {
        stage: round(float(np.median(us)) / 1000, 3) for stage, us in stages.items()
    }


def _clicks(overlap_ms: int, sound: Pcm, voice: "_CannedVoice") -> float:
    """Return the share of joins that click, of those with sound on both sides, converted with this overlap."""
    stream = _stream(TrackerStream, NeuralVoiceSettings(overlap_ms=overlap_ms, match_pitch=False), voice=voice)
    output = np.concatenate([stream.process(chunk).pcm for chunk in np.split(sound, len(sound) // CHUNK)])
    joins = np.arange(_WARM * CHUNK, len(output), CHUNK) + DELAY
    sides = np.abs([[output[join - _NEAR : join], output[join : join + _NEAR]] for join in joins])
    heard = joins[sides.max(axis=2).min(axis=1) > _HEARD]
    return round(float(np.mean(click_ratio(output, heard) > _CLICK)), 3)


def _without_download() -> dict[str, NewPitchStream]:
    sources: dict[str, NewPitchStream] = {"embedded": TrackerStream}
    if find_spec("swift_f0") is not None:
        net = Runtime("cpu").open(swift.swift_graph(), swift.SWIFT_CONTRACT, label="SwiftF0")
        sources["swiftf0"] = lambda: swift.SwiftStream(net)
    return sources


def _stream(
    pitch: NewPitchStream,
    settings: NeuralVoiceSettings | None = None,
    index: ExactIndex | None = None,
    voice: "_CannedVoice | None" = None,
) -> NeuralStream:
    spoken = Synthesiser(voice or _CannedVoice(), label="canned")
    chain = VoiceChain(ContentEncoder(_CannedContent()), pitch, spoken, settings or NeuralVoiceSettings())
    return NeuralStream(chain, Target(float(np.log(_PITCH_HZ)), index))


class _CannedContent:
    inputs = (Tensor("source", "float32", (1, 1, None)),)
    metadata: Mapping[str, str] = MappingProxyType({})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return [np.zeros((1, frame_count(feeds["source"].shape[2]), CHANNELS), np.float32)]


class _CannedSalience:
    inputs = (Tensor("input", "float32", (1, rmvpe.MELS, None)),)
    metadata: Mapping[str, str] = MappingProxyType({})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        salience = np.zeros((1, feeds["input"].shape[2], rmvpe.CENTS_BINS), np.float32)
        salience[:, :, 150] = 0.9
        return [salience]


class _CannedVoice:
    inputs = tuple(
        Tensor(name, dtype, shape)
        for name, dtype, shape in (
            ("phone", "float32", (1, None, CHANNELS)),
            ("phone_lengths", "int64", (1,)),
            ("pitch", "int64", (1, None)),
            ("pitchf", "float32", (1, None)),
            ("ds", "int64", (1,)),
            ("rnd", "float32", (1, 192, None)),
        )
    )
    metadata: Mapping[str, str] = MappingProxyType({})
    _tone = np.sin(2 * np.pi * _PITCH_HZ / _RATE * np.arange(20 * _RATE)).astype(np.float32) * np.float32(0.3)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        return [self._tone[: feeds["pitchf"].shape[1] * _HOP].reshape(1, 1, -1)]


class _Sine(_CannedVoice):
    """Where `_CannedVoice` holds a tone, this one follows the pitch that it is fed."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        pitch = np.repeat(feeds["pitchf"][0], _HOP).astype(np.float64)
        sine = 0.3 * np.sin(2 * np.pi / _RATE * np.cumsum(pitch)) * (pitch > 0)
        return [np.asarray(sine, np.float32).reshape(1, 1, -1)]
