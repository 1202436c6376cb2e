"""Enrols portraits for the neural face engine without opening its swapper, which would take a CPU a quarter of an hour.

What a template needs of the swapper is one matrix in its file.
"""

from workers.models.manifest import DETECTOR, RECOGNISER
from workers.models.runtime import Runtime
from workers.models.store import ModelStore
from workers.video.engine import Frame
from workers.video.neural import contracts, template
from workers.video.neural.arcface import ArcFace
from workers.video.neural.emap import read_emap
from workers.video.neural.enrolment import embedding_of
from workers.video.neural.inswapper import latent_of
from workers.video.neural.scrfd import Scrfd


class PortraitEnroller:
    """Makes the templates that `NeuralFaceEngine` reads. Not thread-safe."""

    name = "neural"

    def __init__(self, store: ModelStore, *, inswapper: str) -> None:
        """Open detector and recogniser on the CPU. Raises `ModelMissing` or `ModelRefused`."""
        runtime = Runtime("cpu")
        self._emap = read_emap(store.read(inswapper), label=inswapper)
        self._detector = Scrfd(runtime.open(store.read(DETECTOR), contracts.DETECTOR, label=DETECTOR))
        self._recogniser = ArcFace(runtime.open(store.read(RECOGNISER), contracts.RECOGNISER, label=RECOGNISER))

    def enrol(self, portrait: Frame) -> bytes:
        """Return the identity template of the one face in the portrait (H, W, 3) BGR. Raises `EnrolmentRefused`."""
        embedding = embedding_of(portrait, self._detector, self._recogniser)
        latent = latent_of(embedding, self._emap)
        return template.encode(template.NeuralTemplate(embedding, latent, template.emap_digest(self._emap)))
