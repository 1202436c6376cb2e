"""The neural voice engine: RVC v2 behind the `VoiceEngine` protocol, opened from the model store."""

import hashlib

import structlog

from schemas.errors import CodecError, ModelRefused
from workers.models.gpu_memory import GpuMemory
from workers.models.manifest import CONTENT_ENCODER, PITCH
from workers.models.runtime import Runtime
from workers.models.store import ModelStore
from workers.reports import GpuFigures
from workers.voice.engine import Pcm, VoiceStream
from workers.voice.neural import rmvpe, swift, template
from workers.voice.neural.chain import Target, VoiceChain
from workers.voice.neural.content import load_encoder
from workers.voice.neural.enrolment import NeuralVoiceEnroller
from workers.voice.neural.f0 import NewPitchStream, TrackerStream
from workers.voice.neural.retrieval import ExactIndex, FaissIndex, FeatureIndex
from workers.voice.neural.settings import F0Name, NeuralVoiceSettings, check_f0_name
from workers.voice.neural.stream import NeuralStream
from workers.voice.neural.synthesiser import load_synthesiser
from workers.voice.stream import SilentStream

_log = structlog.get_logger(__name__)


class NeuralVoiceEngine:
    """`VoiceEngine` that speaks with one synthesiser file."""

    name = "neural"

    def __init__(
        self,
        chain: VoiceChain,
        *,
        voice: str,
        sha256: str,
        index: FeatureIndex | None = None,
        gpu: GpuMemory | None = None,
    ) -> None:
        """Speak with the chain's voice, known as `voice`; `index` overrides what templates hold; opened on `gpu`."""
        self._chain, self._voice, self._sha256, self._index, self._gpu = chain, voice, sha256, index, gpu
        keeps_features = chain.settings.index_rate > 0 and index is None
        self._enroller = NeuralVoiceEnroller(
            voice=voice, sha256=sha256, encoder=chain.content if keeps_features else None
        )

    def memory(self) -> GpuFigures | None:
        """See `MemoryFigures`."""
        return None if self._gpu is None else self._gpu.figures()

    def enrol(self, reference: Pcm) -> bytes:
        """Return the template of at least 10 s of the target's speech. Raises `EnrolmentRefused`."""
        return self._enroller.enrol(reference)

    def open(self, template_bytes: bytes | None) -> VoiceStream:
        """Start a stream; None silences everything.

        A template that was enrolled without features is spoken as it is, whatever the index rate: the log says so.
        Raises `CodecError` for bytes that are not a template, or one that belongs to another synthesiser file.
        """
        if template_bytes is None:
            return SilentStream()
        worn = template.decode(template_bytes)
        if worn.sha256 != self._sha256:
            raise CodecError(
                f"voice template is for {worn.voice} ({worn.sha256[:12]}), this worker speaks with {self._voice} "
                f"({self._sha256[:12]}): enrol the voice again, or set its file"
            )
        return NeuralStream(self._chain, Target(worn.log_f0, self._index_for(worn)))

    def _index_for(self, worn: template.NeuralVoiceTemplate) -> FeatureIndex | None:
        rate = self._chain.settings.index_rate
        if not rate:
            return None
        if self._index is not None:
            return self._index
        if worn.features is None:
            # It is a matter of likeness, not of consent: silence for everybody enrolled before would be out of measure.
            _log.warning(
                "voice was enrolled without features, so the index rate does nothing; enrol it again",
                voice=worn.voice,
                index_rate=rate,
            )
            return None
        return ExactIndex(worn.features)


def load_neural_voice(
    store: ModelStore,
    runtime: Runtime,
    *,
    voice: str,
    f0: F0Name = "rmvpe",
    settings: NeuralVoiceSettings | None = None,
    index: str = "",
) -> NeuralVoiceEngine:
    """Open everything the engine needs: the encoder, the source of F0, the synthesiser `voice`, an index file.

    `voice` (`voices/NAME.onnx`) and `index` (`voices/NAME.index`) are names in the store. Raises `ModelMissing`,
    `ModelRefused` or `Misconfigured`, saying what to do.
    """
    check_f0_name(f0)
    chosen = settings or NeuralVoiceSettings()
    encoder = load_encoder(runtime, store.read(CONTENT_ENCODER))
    graph = store.read(voice)
    synthesiser = load_synthesiser(runtime, graph, label=voice, fixed_noise=chosen.fixed_noise)
    chain = VoiceChain(encoder, _pitch(store, runtime, f0), synthesiser, chosen)
    return NeuralVoiceEngine(
        chain,
        voice=voice,
        sha256=hashlib.sha256(graph).hexdigest(),
        index=_looked_up_in(store, index) if index else None,
        gpu=runtime.gpu,
    )


def _looked_up_in(store: ModelStore, name: str) -> FaissIndex:
    try:
        return FaissIndex(store.read(name))
    except ModelRefused as error:
        raise ModelRefused(f"{name}: {error}") from error


def _pitch(store: ModelStore, runtime: Runtime, name: F0Name) -> NewPitchStream:
    if name == "rmvpe":
        tracker = rmvpe.load_rmvpe(runtime, store.read(PITCH))
        return lambda: rmvpe.RmvpeStream(tracker)
    if name == "swiftf0":
        net = runtime.open(swift.swift_graph(), swift.SWIFT_CONTRACT, label="SwiftF0")
        return lambda: swift.SwiftStream(net)
    return TrackerStream
