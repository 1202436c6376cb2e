"""Enrolment: what a template says of a target, learned from its reference. Needs no synthesiser and no GPU."""

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelMissing
from workers.models.manifest import CONTENT_ENCODER
from workers.models.runtime import Runtime
from workers.models.store import ModelStore
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.neural import template
from workers.voice.neural.content import ContentEncoder, load_encoder
from workers.voice.neural.windows import GRID
from workers.voice.template import learn

_PIECE = 8 * SAMPLE_RATE  # samples of reference encoded in one run
MOST_ROWS = 1024  # of an index: 1.5 MB of template, and an exact search of 1 ms a chunk
_QUIET = 10 ** (-45 / 20)  # peak of a content frame that belongs to nobody


class NeuralVoiceEnroller:
    """Makes templates of the neural engine for one synthesiser file."""

    name = "neural"

    def __init__(self, *, voice: str, sha256: str, encoder: ContentEncoder | None = None) -> None:
        """Bind templates to file `voice` with this hash; with `encoder` they hold features for retrieval."""
        self._voice, self._sha256, self._encoder = voice, sha256, encoder

    def enrol(self, reference: Pcm) -> bytes:
        """Return the template of at least 10 s of the target's speech: see `template`. Raises `EnrolmentRefused`."""
        log_f0 = float(learn(reference).pitch.mean[0])
        features = None if self._encoder is None else _features(self._encoder, reference)
        return template.encode(template.NeuralVoiceTemplate(self._voice, self._sha256, log_f0, features))


def load_enroller(
    store: ModelStore, runtime: Runtime, *, voice: str, index_rate: float = 0.0, index: str = ""
) -> NeuralVoiceEnroller:
    """Return the enroller that fits `load_neural_voice` with the same arguments; the synthesiser is not opened.

    Raises `ModelMissing` when the voice, or the encoder that an index needs, is not in the store.
    """
    sha256, _ = store.expected(voice)
    if sha256 is None or not store.has(voice):
        raise ModelMissing(f"{voice} is not in {store.folder}; `mirage models add-voice FILE` adds one")
    encoder = None
    if index_rate and not index:
        encoder = load_encoder(runtime, store.read(CONTENT_ENCODER))
    return NeuralVoiceEnroller(voice=voice, sha256=sha256, encoder=encoder)


def _features(encoder: ContentEncoder, reference: Pcm) -> NDArray[np.float16]:
    """Return features (rows, 768) of what is not silence, evenly thinned to `MOST_ROWS` at most."""
    sound = np.asarray(reference, np.float32) / np.float32(32768)
    found = []
    for at in range(0, len(sound) - _PIECE // 8, _PIECE):
        piece = sound[at : at + _PIECE]
        features = encoder(piece)
        peaks = np.maximum.reduceat(np.abs(piece), GRID * np.arange(len(features)))
        found.append(features[peaks > _QUIET])
    rows = np.concatenate(found).astype(np.float16)
    return rows[:: -(-len(rows) // MOST_ROWS)]
