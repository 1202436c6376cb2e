"""The neural face engine: SCRFD finds, optical flow follows, ArcFace enrols, InSwapper swaps."""

from collections.abc import Sequence
from typing import Protocol

import cv2
import structlog

from schemas.errors import ModelRefused
from workers.models.batch_axis import open_batched
from workers.models.gpu_memory import GpuMemory
from workers.models.manifest import DETECTOR, RECOGNISER, SWAPPER, SWAPPER_FP32
from workers.models.runtime import Network, Runtime
from workers.models.selftest import self_test
from workers.reports import GpuFigures
from workers.video.cuts import SceneCuts
from workers.video.engine import FaceResult, FaceSession, FaceSettings, Frame
from workers.video.neural import contracts, template
from workers.video.neural.arcface import ArcFace
from workers.video.neural.emap import read_emap
from workers.video.neural.enrolment import embedding_of
from workers.video.neural.flow import FlowTracker
from workers.video.neural.inswapper import MAX_BATCH, InSwapper, NeuralIdentity, SwapOptions, latent_of, profile_of
from workers.video.neural.paste import NeuralPatch
from workers.video.neural.probe import swapper_feeds
from workers.video.neural.scrfd import Scrfd, open_detector
from workers.video.pixels import Float
from workers.video.stages import Enhancer
from workers.video.swap_pipeline import SwapPipeline, SwapSession, each_once

_PRECISION = 0.1
"""Largest difference to the single-precision file, as a share of its peak: artefacts are larger, rounding is not."""

_log = structlog.get_logger(__name__)


class ModelSource(Protocol):
    """Where model files come from: `workers.models.store.ModelStore`."""

    def has(self, name: str) -> bool:
        """Say whether the file is there."""
        ...

    def read(self, name: str) -> bytes:
        """Return its verified bytes."""
        ...


class NeuralFaceEngine:
    """A `FaceEngine`. Not thread-safe: one thread drives it."""

    def __init__(
        self,
        detector: Scrfd,
        recogniser: ArcFace,
        swapper: InSwapper,
        emap: Float,
        enhancer: Enhancer[NeuralPatch] | None = None,
        gpu: GpuMemory | None = None,
    ) -> None:
        """Take the opened parts; `emap` (512, 512) belongs to the swapper, `gpu` is what they were opened on."""
        cv2.setNumThreads(1)  # a worker has one core; OpenCV's own threads would take its neighbours'
        self._detector, self._recogniser = detector, recogniser
        self._emap, self._emap_digest, self._gpu = emap, template.emap_digest(emap), gpu
        self._pipeline: SwapPipeline[NeuralIdentity, NeuralPatch] = SwapPipeline(detector, swapper, enhancer)

    @property
    def name(self) -> str:
        """Return `neural`."""
        return "neural"

    @property
    def batch(self) -> int:
        """Return 8. On an A10G one face is estimated to fill most of the card, so that a batch saves the cost of calls.

        A larger card gains more; and more faces than these would take longer there than a frame lasts.
        """
        return 8

    def memory(self) -> GpuFigures | None:
        """See `MemoryFigures`."""
        return None if self._gpu is None else self._gpu.figures()

    def enrol(self, portrait: Frame) -> bytes:
        """Return the identity template of the one face in the portrait (H, W, 3) BGR. Raises `EnrolmentRefused`."""
        embedding = embedding_of(portrait, self._detector, self._recogniser)
        latent = latent_of(embedding, self._emap)
        return template.encode(template.NeuralTemplate(embedding, latent, self._emap_digest))

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> SwapSession[NeuralIdentity]:
        """See `FaceEngine.open`; `InputRejected` has the code `template_invalid`."""
        identities = each_once(worn, lambda data: NeuralIdentity(self._latent(template.decode(data))))
        return SwapSession(settings, identities, FlowTracker(settings.max_faces), cuts=SceneCuts())

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        """Process (session, frame, pts in µs) jobs, results in order; a session appears at most once per call."""
        return self._pipeline.process([(_own(session), frame, pts_us) for session, frame, pts_us in jobs])

    def _latent(self, worn: template.NeuralTemplate) -> Float:
        return worn.latent if worn.emap == self._emap_digest else latent_of(worn.embedding, self._emap)


def load_neural_face(
    store: ModelSource,
    runtime: Runtime,
    *,
    inswapper: str = SWAPPER,
    options: SwapOptions | None = None,
    enhancer: Enhancer[NeuralPatch] | None = None,
) -> NeuralFaceEngine:
    """Open the models of the neural engine, and refuse a swapper that does not work on this device.

    Raises `ModelMissing` for a file that is not there, `ModelRefused` for one that is not what it should be, or whose
    output is black, flat, not finite, or unlike that of the single-precision file, where that is in the store too.
    """
    graph = store.read(inswapper)
    emap = read_emap(graph, label=inswapper)
    network = _swapper_network(runtime, graph, inswapper)
    del graph  # a quarter or half a gigabyte
    reference = None
    if inswapper != SWAPPER_FP32 and store.has(SWAPPER_FP32):
        single = runtime.open(store.read(SWAPPER_FP32), contracts.SWAPPER, label=SWAPPER_FP32)
        reference = self_test(single, swapper_feeds(), label=SWAPPER_FP32)
        del single
    self_test(network, swapper_feeds(), label=inswapper, reference=reference, tolerance=_PRECISION)
    swapper = InSwapper(network, options)
    if runtime.accelerated:
        swapper.warm()  # kernels are chosen and engines built for each shape; on the CPU nothing is
    detector = open_detector(runtime, store.read(DETECTOR), label=DETECTOR)
    recogniser = ArcFace(runtime.open(store.read(RECOGNISER), contracts.RECOGNISER, label=RECOGNISER))
    return NeuralFaceEngine(detector, recogniser, swapper, emap, enhancer, runtime.gpu)


def _swapper_network(runtime: Runtime, graph: bytes, label: str) -> Network:
    """Open a swapper for batches; one that cannot be batched swaps face by face, and that is logged."""
    network, profile = runtime.open(graph, contracts.SWAPPER, label=label), profile_of(1, 4, MAX_BATCH)
    if all(tensor.shape[0] is None for tensor in network.inputs):
        if runtime.provider != "tensorrt":
            return network
        # Only now: the profile contradicts a locked axis. For a free one no engine was built without it.
        del network
        return runtime.open(graph, contracts.SWAPPER, label=label, profile=profile)
    try:
        return open_batched(runtime, graph, contracts.SWAPPER, label=label, profile=profile)
    except ModelRefused as error:
        _log.warning("faces_are_swapped_one_by_one", reason=str(error))
        return network


def _own(session: FaceSession) -> SwapSession[NeuralIdentity]:
    if not isinstance(session, SwapSession):
        raise TypeError(f"not a session of this engine: {session!r}")
    return session
