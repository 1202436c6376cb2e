"""The neural engine on stand-ins, opened from a store as a worker would."""

import tempfile
from pathlib import Path

import numpy as np

from tests.workers.voice.neural.standins import encoder, pitch_finder, voice
from workers.models.manifest import CONTENT_ENCODER, PITCH
from workers.models.runtime import Runtime
from workers.models.store import ModelStore
from workers.voice.neural import template
from workers.voice.neural.engine import NeuralVoiceEngine, load_neural_voice
from workers.voice.neural.settings import F0Name, NeuralVoiceSettings
from workers.voice.neural.template import NeuralVoiceTemplate

VOICE = "voices/standin.onnx"


def fill(folder: Path, synthesiser: bytes) -> ModelStore:
    """Return a store that holds the three networks."""
    store = ModelStore(folder)
    for name, graph in ((CONTENT_ENCODER, encoder()), (PITCH, pitch_finder()), (VOICE, synthesiser)):
        store.put(name, graph, origin="built by the tests", at="2026-01-01T00:00:00Z")
    return store


def load(
    synthesiser: bytes | None = None, *, f0: F0Name = "rmvpe", settings: NeuralVoiceSettings | None = None
) -> NeuralVoiceEngine:
    """Return the engine that a worker with these files would have."""
    with tempfile.TemporaryDirectory() as folder:
        store = fill(Path(folder), voice() if synthesiser is None else synthesiser)
        return load_neural_voice(store, Runtime("cpu"), voice=VOICE, f0=f0, settings=settings)


def worn(engine: NeuralVoiceEngine, *, hertz: float = 180.0) -> bytes:
    """Return a template of the engine's voice, with this mean pitch: enrolment without listening to a reference."""
    return template.encode(NeuralVoiceTemplate(VOICE, engine._sha256, float(np.log(hertz))))
