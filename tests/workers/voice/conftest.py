"""Real media: half a minute each of two readers; the first 12 s enrol, the rest is held out."""

from pathlib import Path
from types import MappingProxyType

import pytest

from tests.workers.voice.speech import Held, convert, read_wav
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.measure import SpeakerEncoder

MEDIA = Path(__file__).parents[3] / "ops" / "media"
ENROL_SAMPLES = 12 * SAMPLE_RATE


@pytest.fixture(scope="session")
def voices() -> MappingProxyType[str, Held]:
    """Both speakers: `reference` to enrol with, `held_out` to convert and to compare with."""
    found = {}
    for name in ("a", "b"):
        pcm = read_wav(MEDIA / f"speaker_{name}.wav")
        found[name] = Held(pcm[:ENROL_SAMPLES], pcm[ENROL_SAMPLES:])
    return MappingProxyType(found)


@pytest.fixture(scope="session")
def engine() -> EmbeddedVoiceEngine:
    return EmbeddedVoiceEngine()


@pytest.fixture(scope="session")
def encoder() -> SpeakerEncoder:
    return SpeakerEncoder()


@pytest.fixture(scope="session")
def templates(engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held]) -> MappingProxyType[str, bytes]:
    return MappingProxyType({name: engine.enrol(held.reference) for name, held in voices.items()})


@pytest.fixture(scope="session")
def converted(
    engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> MappingProxyType[str, Pcm]:
    """Held-out speech of each speaker in each voice, by `source + target`, from streams that start cold."""
    return MappingProxyType(
        {
            source + target: convert(engine.open(templates[target]), voices[source].held_out)
            for source in voices
            for target in voices
        }
    )
