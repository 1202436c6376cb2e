"""The networks of an engine, and what is chosen of them: shared by all streams, changed by none."""

from dataclasses import dataclass

from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural.content import ContentEncoder
from workers.voice.neural.f0 import NewPitchStream
from workers.voice.neural.retrieval import FeatureIndex
from workers.voice.neural.settings import SEARCH_MS, NeuralVoiceSettings
from workers.voice.neural.sola import Splicer
from workers.voice.neural.synthesiser import Synthesiser


@dataclass(frozen=True, slots=True)
class VoiceChain:
    """Networks and settings."""

    content: ContentEncoder
    pitch: NewPitchStream
    voice: Synthesiser
    settings: NeuralVoiceSettings

    @property
    def context(self) -> int:
        """Samples of past at 16 kHz that lie before every block."""
        return self.settings.context_ms * SAMPLE_RATE // 1000

    def splicer(self) -> Splicer:
        """Return a fresh splicer at the voice's rate."""
        return Splicer(
            self.settings.overlap_ms * self.voice.rate // 1000,
            SEARCH_MS * self.voice.rate // 1000,
        )


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a stream turns its speaker into."""

    log_f0: float
    index: FeatureIndex | None
