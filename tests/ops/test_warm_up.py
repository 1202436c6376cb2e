"""Warming up: an engine that would cover every face, or silence every voice, is none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from ops.engines import embedded_face, embedded_voice, model_store, voice_engine
from ops.settings import Settings
from ops.warm_up import warm_face, warm_voice
from schemas.errors import ModelRefused
from tests.workers.voice.neural.standins import encoder, pitch_finder, voice
from workers.models import manifest
from workers.models.runtime import Runtime
from workers.video.engine import FaceOutcome, FaceResult, FaceSettings, Frame
from workers.voice.engine import Pcm, VoiceOutcome, VoiceResult


class Covering:
    """A face engine that knows the portrait, and then finds nobody: all that its warm-up asks of one."""

    name = "neural"

    def enrol(self, portrait: Frame) -> bytes:
        return portrait.tobytes()[:1]

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> None:
        pass

    def process(self, jobs: Sequence[tuple[None, Frame, int]]) -> list[FaceResult]:
        return [FaceResult(frame, FaceOutcome.COVERED, 0, detector_ran=True, confidence_pm=0) for _, frame, _ in jobs]


class Answering:
    """A voice engine that gives silence with these outcomes, the last one for ever."""

    name = "neural"

    def __init__(self, *outcomes: VoiceOutcome) -> None:
        self.outcomes = list(outcomes)

    def enrol(self, reference: Pcm) -> bytes:
        return reference.tobytes()[:1]

    def open(self, template: bytes | None) -> "Answering":
        del template
        return self

    def process(self, pcm: Pcm) -> VoiceResult:
        return VoiceResult(np.zeros_like(pcm), self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0])


def test_a_face_engine_that_swaps_no_face_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"neural face engine swaps no face .*covered, covered"):
        warm_face(Covering())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "outcomes",
    [
        (VoiceOutcome.GATED,),
        (VoiceOutcome.SILENCED,),
        (VoiceOutcome.CONVERTED, VoiceOutcome.SILENCED, VoiceOutcome.CONVERTED),
    ],
)
def test_a_voice_engine_that_says_nothing_or_is_silenced_in_between_is_refused(
    outcomes: tuple[VoiceOutcome, ...],
) -> None:
    with pytest.raises(ModelRefused, match=rf"neural voice engine cannot convert .*{', '.join(outcomes)}"):
        warm_voice(Answering(*outcomes))  # type: ignore[arg-type]


def test_the_embedded_engines_and_one_that_waits_for_sound_first_are_warm() -> None:
    warm_face(embedded_face())
    warm_voice(embedded_voice())
    warm_voice(Answering(VoiceOutcome.GATED, VoiceOutcome.CONVERTED))  # type: ignore[arg-type]


def test_a_voice_that_fails_on_speech_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers its probe at 220 Hz, and not the speech, which it is asked for two octaves higher."""
    asked = Settings(data_dir=tmp_path, provider="cpu", voice_engine="neural", voice_semitones=24.0)
    graphs = {
        manifest.CONTENT_ENCODER: encoder(),
        manifest.PITCH: pitch_finder(),
        "voices/a.onnx": voice(poisoned=True),
    }
    for name, graph in graphs.items():
        model_store(asked).put(name, graph, origin="built by the tests", at="2026-01-01T00:00:00+00:00")
    with pytest.raises(
        ModelRefused, match=r"MIRAGE_VOICE_ENGINE=neural cannot run: .*cannot convert the shipped speech"
    ):
        voice_engine(asked)
    monkeypatch.setattr(Runtime, "accelerated", property(lambda _: True))
    with capture_logs() as lines:
        assert voice_engine(Settings(data_dir=tmp_path, provider="cpu", voice_semitones=24.0)).name == "embedded"
    assert "silenced" in next(line for line in lines if line["event"] == "voice engine")["reason"]
