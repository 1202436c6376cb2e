"""`mirage bench engines`: cost of the embedded engines on one core, on the demo's media, next to the budgets."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from ops.demo.footage import FPS
from ops.demo.inputs import Choice, DemoInputs, load
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import FaceOutcome, FaceSettings
from workers.video.task import decode
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, Pcm

BUDGETS = {"frame_ms": 80.0, "frame_ms_at_20_fps": 50.0, "voice_ratio": 0.65}
"""The specification's: under 80 ms a frame, 20 frames a second, a chunk counts as accepted below 0.65."""


@dataclass
class EngineFigures:
    """CPU seconds a frame, CPU ratio a chunk."""

    frames: list[float] = field(default_factory=list)
    covered: int = 0
    stages_us: dict[str, list[int]] = field(default_factory=dict)
    chunks: dict[int, list[float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the published keys."""
        p50, p95 = np.percentile(np.asarray(self.frames) * 1000, [50, 95])
        return {
            "video_ms_per_frame": {"p50": round(float(p50), 2), "p95": round(float(p95), 2)},
            "video_ms_mean": round(float(np.mean(self.frames) * 1000), 2),
            "video_stages_ms": {name: round(float(np.median(us)) / 1000, 2) for name, us in self.stages_us.items()},
            "voice_ratio": {str(ms): round(float(np.median(ratio)), 4) for ms, ratio in self.chunks.items()},
            "frames": len(self.frames),
            "frames_covered": self.covered,
            "budgets": BUDGETS,
        }


def one_core() -> None:
    """Pin this process to one core, where the system can."""
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def measure(frames: int, seconds: int, progress: Callable[[int], None]) -> EngineFigures:
    """Run both engines: `frames` frames of 512x512, and `seconds` of speech at 96 and at 192 ms."""
    figures, inputs = EngineFigures(), load(Choice(), max(seconds, frames / FPS))
    _video(figures, inputs, frames, progress)
    for chunk_ms in (96, 192):
        figures.chunks[chunk_ms] = _voice(inputs, chunk_ms, seconds)
        progress(1)
    return figures


def _video(figures: EngineFigures, inputs: DemoInputs, count: int, progress: Callable[[int], None]) -> None:
    engine = EmbeddedFaceEngine()
    session = engine.open(FaceSettings(), [engine.enrol(inputs.portrait_bgr)])
    for n in range(count):
        frame = decode(inputs.clip.jpegs[inputs.clip.index(n)])
        started = time.thread_time()
        result = engine.process([(session, frame, n * 50_000)])[0]
        spent = time.thread_time() - started
        figures.covered += result.outcome is not FaceOutcome.SWAPPED
        if n >= 10:  # models warm, tracker locked
            figures.frames.append(spent)
            for name, us in result.stages_us.items():
                figures.stages_us.setdefault(name, []).append(us)
        progress(1)


def _voice(inputs: DemoInputs, chunk_ms: int, seconds: int) -> list[float]:
    engine = EmbeddedVoiceEngine()
    stream = engine.open(engine.enrol(inputs.voice))
    size = chunk_ms * SAMPLE_RATE // 1000
    speech: Pcm = np.resize(inputs.speech, seconds * SAMPLE_RATE // size * size)
    ratios = []
    for start in range(0, speech.size, size):
        started = time.thread_time()
        stream.process(speech[start : start + size])
        ratios.append((time.thread_time() - started) * 1000 / chunk_ms)
    return ratios[5:]
