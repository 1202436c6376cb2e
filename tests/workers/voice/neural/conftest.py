"""Engine and template that several tests share."""

from types import MappingProxyType

import pytest

from tests.workers.voice.neural.loading import load
from tests.workers.voice.speech import Held
from workers.voice.neural.engine import NeuralVoiceEngine


@pytest.fixture(scope="session")
def neural_engine() -> NeuralVoiceEngine:
    return load()


@pytest.fixture(scope="session")
def neural_template(neural_engine: NeuralVoiceEngine, voices: MappingProxyType[str, Held]) -> bytes:
    return neural_engine.enrol(voices["b"].reference)
