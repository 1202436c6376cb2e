"""Engines that return their input, to measure or to torture everything around the engines.

They show the raw face and the raw voice, so nothing that serves people can select them: there is no setting that names
them, only the benchmark and the fault tests build them.
"""

import time
from collections.abc import Sequence

import numpy as np

from workers.video.engine import FaceOutcome, FaceResult, FaceSession, FaceSettings, Frame
from workers.voice.engine import Pcm, VoiceOutcome, VoiceResult, VoiceStream


class _NoState:
    """A session without state."""


class PassthroughFaces:
    """Implements `FaceEngine`; takes `cost_s` a frame."""

    name = "passthrough"

    def __init__(self, cost_s: float = 0.0) -> None:
        """Pretend to work for `cost_s` seconds a frame."""
        self._cost_s = cost_s

    def enrol(self, portrait: Frame) -> bytes:
        """Return a template that says nothing."""
        return bytes(portrait.shape[:1])

    def open(self, settings: FaceSettings, template: bytes | None) -> FaceSession:
        """Return a session without state."""
        del settings, template
        return _NoState()

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        """Return the frames."""
        time.sleep(self._cost_s)
        return [FaceResult(frame, FaceOutcome.PASSED, 0, False, 0) for _, frame, _ in jobs]


class _Echo:
    lookahead = 0
    context = 0

    def __init__(self, cost_s: float) -> None:
        self._cost_s = cost_s

    def prime(self, pcm: Pcm) -> None:
        """Nothing to warm up."""

    def process(self, pcm: Pcm) -> VoiceResult:
        time.sleep(self._cost_s)
        return VoiceResult(pcm, VoiceOutcome.CONVERTED)


class PassthroughVoices:
    """Implements `VoiceEngine`; takes `cost_s` a chunk."""

    name = "passthrough"

    def __init__(self, cost_s: float = 0.0) -> None:
        """Pretend to work for `cost_s` seconds a chunk."""
        self._cost_s = cost_s

    def enrol(self, reference: Pcm) -> bytes:
        """Return a template that says nothing."""
        return np.int64(reference.size).tobytes()

    def open(self, template: bytes | None) -> VoiceStream:
        """Return a stream without delay."""
        del template
        return _Echo(self._cost_s)
