"""Which engine runs, and why; and the engine itself, warm.

`auto` takes the neural engine where all of its models verify and a GPU runs them. On a CPU it stays with the embedded
one even where the models are there: a swap is 349 GFLOP, seconds a face, and a live stream that arrives late is a
worse answer than a simpler swap. `neural` takes it wherever it can run at all, or says what is missing.

What loads an engine reads and hashes every model once, and runs what it hashed: half a gigabyte takes a second.
Commands that start others, or only explain, hash the models before anything runs: a worker that cannot load them would
be started again for ever.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from ops.settings import Settings
from ops.warm_up import warm_face, warm_voice
from schemas.errors import EnrolmentRefused, Misconfigured, ModelMissing, ModelRefused
from workers.models import manifest
from workers.models.store import ModelStore
from workers.video.engine import FaceEngine, Frame
from workers.voice.engine import Pcm, VoiceEngine

log = structlog.get_logger(__name__)

Material_contra = TypeVar("Material_contra", contravariant=True)
EngineT = TypeVar("EngineT")

AUTO, EMBEDDED, NEURAL = "auto", "embedded", "neural"
SWAPPERS = {"fp16": manifest.SWAPPER, "fp32": manifest.SWAPPER_FP32}
"""`MIRAGE_INSWAPPER` → file."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine that will run, and the reason in one sentence."""

    engine: str
    reason: str


def models_folder(settings: Settings) -> Path:
    """Return the folder of the model store."""
    return settings.models_dir or settings.data_dir / "models"


def model_store(settings: Settings) -> ModelStore:
    """Return the model store; nothing is made or read yet."""
    return ModelStore(models_folder(settings))


def face_models(settings: Settings) -> tuple[str, ...]:
    """Return the models that the neural face engine cannot do without. Raises `ModelMissing` when one is not there."""
    needed = (manifest.DETECTOR, manifest.RECOGNISER, SWAPPERS[settings.inswapper])
    return _there(settings, needed, "face")


def swap_models(settings: Settings) -> tuple[str, ...]:
    """Return the models that swapping takes with these settings; enrolment does with less. Raises `ModelMissing`."""
    segmenter = (manifest.SEGMENTER,) if settings.occlusion else ()
    enhanced = settings.codeformer_every and model_store(settings).has(manifest.CODEFORMER)
    enhancer = (manifest.CODEFORMER,) if enhanced else ()
    return (*face_models(settings), *_there(settings, segmenter, "occlusion"), *enhancer)


def voice_models(settings: Settings) -> tuple[str, ...]:
    """Return the models that the neural voice engine cannot do without, the voice last.

    Raises `ModelMissing` when one is not there, `Misconfigured` when several voices are and none is chosen.
    """
    pitch = (manifest.PITCH,) if settings.voice_f0 == "rmvpe" else ()
    return (*_there(settings, (manifest.CONTENT_ENCODER, *pitch), "voice"), _voice(settings))


def speech_models(settings: Settings) -> tuple[str, ...]:
    """Return the models that speaking takes with these settings; enrolment does with less.

    Raises as `voice_models` does, and `Misconfigured` when a package that opens them is not installed.
    """
    models = voice_models(settings)
    index = _index(settings, models[-1])
    needed = {"onnx": True, "swift_f0": settings.voice_f0 == "swiftf0", "faiss": bool(index)}
    missing = [package for package, wanted in needed.items() if wanted and find_spec(package) is None]
    if missing:
        raise Misconfigured(
            f"the neural voice needs {', '.join(missing)}, which the default installation has not; install the extra "
            "neural (gpu, where onnxruntime-gpu is): pip install -e '.[neural]'"
        )
    return (*models, index) if index else models


def choose_face(settings: Settings) -> EngineChoice:
    """Return the face engine that `settings` lead to, with every model it needs read and checked; opens none.

    Raises `ModelMissing`, `ModelRefused` or `Misconfigured` when the neural one is asked for and cannot run.
    """
    return _choose("MIRAGE_ENGINE", settings.engine, settings, swap_models, verify=True)


def choose_voice(settings: Settings) -> EngineChoice:
    """Return the voice engine that `settings` lead to; raises as `choose_face` does."""
    return _choose("MIRAGE_VOICE_ENGINE", settings.voice_engine, settings, speech_models, verify=True)


def face_engine(settings: Settings) -> FaceEngine:
    """Return the chosen face engine, warm; each model is read once.

    Raises as `choose_face` does, and when a graph does not pass its tests. With `auto` either leads to the embedded
    engine instead, and the log says why.
    """
    choice, neural = _loaded("MIRAGE_ENGINE", settings.engine, settings, swap_models, neural_face)
    log.info("face engine", engine=choice.engine, reason=choice.reason)
    return neural or warm_face(embedded_face())


def voice_engine(settings: Settings) -> VoiceEngine:
    """Return the chosen voice engine, warm; see `face_engine`."""
    choice, neural = _loaded("MIRAGE_VOICE_ENGINE", settings.voice_engine, settings, speech_models, neural_voice)
    log.info("voice engine", engine=choice.engine, reason=choice.reason)
    return neural or warm_voice(embedded_voice())


def embedded_face() -> FaceEngine:
    """Return the embedded face engine."""
    from workers.video.embedded import EmbeddedFaceEngine  # noqa: PLC0415 - loads models: only where it is driven

    return EmbeddedFaceEngine()


def embedded_voice() -> VoiceEngine:
    """Return the embedded voice engine."""
    from workers.voice.embedded import EmbeddedVoiceEngine  # noqa: PLC0415 - loads models: only where it is driven

    return EmbeddedVoiceEngine()


def neural_face(settings: Settings) -> FaceEngine:
    """Return the neural face engine, warm: what it then holds of a GPU is what it needs.

    Raises `ModelRefused` where what detects and recognises faces does not do so on this device.
    """
    from workers.models.runtime import Runtime  # noqa: PLC0415 - as above
    from workers.video.neural.codeformer import load_codeformer  # noqa: PLC0415
    from workers.video.neural.engine import load_neural_face  # noqa: PLC0415
    from workers.video.neural.inswapper import SwapOptions  # noqa: PLC0415
    from workers.video.neural.occluder import load_occluder  # noqa: PLC0415

    store = model_store(settings)
    runtime = Runtime(
        settings.provider, cache_dir=models_folder(settings) / "cache", cuda_graphs=bool(settings.cuda_graphs)
    )
    enhancer = load_codeformer(store, runtime, fidelity=settings.codeformer_fidelity, every=settings.codeformer_every)
    engine = load_neural_face(
        store,
        runtime,
        inswapper=SWAPPERS[settings.inswapper],
        options=SwapOptions(light=settings.swap_light, keep_mouth=bool(settings.swap_keep_mouth)),
        enhancer=load_occluder(store, runtime, enhancer) if settings.occlusion else enhancer,
    )
    try:
        warm_face(engine)
    except EnrolmentRefused as error:
        raise ModelRefused(
            f"on {runtime.provider} the detector and recogniser do not know the shipped portrait: {error}; "
            "try another MIRAGE_PROVIDER"
        ) from error
    runtime.settle()
    return engine


def occlusion(settings: Settings) -> str:
    """Return in one sentence whether what lies before a face stays before its swap, and what it would take."""
    if not settings.occlusion:
        return "none: MIRAGE_OCCLUSION is 0"
    if not model_store(settings).has(manifest.SEGMENTER):
        return f"none: no {manifest.SEGMENTER} (`mirage models pull occlusion`)"
    return "hands, hair and things before a face stay before it, where the neural engine runs"


def enhancement(settings: Settings) -> str:
    """Return in one sentence whether CodeFormer restores swapped faces, and what it would take."""
    if settings.codeformer_every == 0:
        return "none: MIRAGE_CODEFORMER_EVERY is 0"
    if not model_store(settings).has(manifest.CODEFORMER):
        return f"none: no {manifest.CODEFORMER} (`mirage models pull enhance`, then `mirage models convert codeformer`)"
    return f"CodeFormer on every {settings.codeformer_every}. frame of a face, where the neural engine runs"


def neural_voice(settings: Settings) -> VoiceEngine:
    """Return the neural voice engine, warm; see `neural_face`."""
    from workers.models.runtime import Runtime  # noqa: PLC0415 - as above
    from workers.voice.neural.engine import load_neural_voice  # noqa: PLC0415
    from workers.voice.neural.settings import NeuralVoiceSettings  # noqa: PLC0415

    store, voice = model_store(settings), _voice(settings)
    # No CUDA graphs: a window's length follows the chunk size, which the policy changes on the way, and each length
    # would be recorded in the middle of a stream. The voice's networks run unbound, which is never recorded.
    runtime = Runtime(settings.provider, cache_dir=models_folder(settings) / "cache")
    engine = load_neural_voice(
        store,
        runtime,
        voice=voice,
        f0=settings.voice_f0,
        index=_index(settings, voice),
        settings=NeuralVoiceSettings(
            overlap_ms=settings.voice_overlap_ms,
            semitones=settings.voice_semitones,
            formant_semitones=settings.voice_formants,
            index_rate=settings.voice_index_rate,
            fixed_noise=bool(settings.voice_fixed_noise),
            fixed_blocks=bool(settings.voice_fixed_blocks),
        ),
    )
    warm_voice(engine)
    runtime.settle()
    return engine


def _index(settings: Settings, voice: str) -> str:
    """Return the file with the features that the voice was trained on, or none."""
    name = voice.removesuffix(".onnx") + ".index"
    return name if settings.voice_index_rate and model_store(settings).has(name) else ""


class TemplateMaker(Protocol[Material_contra]):
    """What enrols: an engine, or that part of one."""

    @property
    def name(self) -> str:
        """Name of the engine that reads the templates."""
        ...

    def enrol(self, material: Material_contra, /) -> bytes:
        """Return the template. Raises `EnrolmentRefused`."""
        ...


def face_enrollers(settings: Settings) -> tuple[TemplateMaker[Frame], ...]:
    """Return what a new portrait is enrolled with: the embedded engine, and the neural one where its models are.

    Whichever a worker runs then finds its template; a worker may have a GPU where this process has none. Raises
    `ModelMissing` when the neural engine is asked for and its models are not here.
    """
    if settings.engine == EMBEDDED or not _present(face_models, settings, must=settings.engine == NEURAL):
        return (embedded_face(),)
    from ops.neural_enrolment import PortraitEnroller  # noqa: PLC0415 - as above

    return embedded_face(), PortraitEnroller(model_store(settings), inswapper=SWAPPERS[settings.inswapper])


def voice_enrollers(settings: Settings) -> tuple[TemplateMaker[Pcm], ...]:
    """Return what a new voice is enrolled with; see `face_enrollers`."""
    must = settings.voice_engine == NEURAL
    if settings.voice_engine == EMBEDDED or not _present(voice_models, settings, must=must):
        return (embedded_voice(),)
    from workers.models.runtime import Runtime  # noqa: PLC0415 - as above
    from workers.voice.neural.enrolment import load_enroller  # noqa: PLC0415

    voice = _voice(settings)
    neural = load_enroller(
        model_store(settings),
        Runtime("cpu"),
        voice=voice,
        index_rate=settings.voice_index_rate,
        index=_index(settings, voice),
    )
    return embedded_voice(), neural


def _present(models: Callable[[Settings], tuple[str, ...]], settings: Settings, *, must: bool) -> bool:
    try:
        models(settings)
    except Misconfigured:
        if must:
            raise
        return False
    return True


def _there(settings: Settings, needed: tuple[str, ...], group: str) -> tuple[str, ...]:
    store = model_store(settings)
    missing = [name for name in needed if not store.has(name)]
    if missing:
        pull = group if set(missing) <= set(manifest.GROUPS[group]) else " ".join(missing)
        raise ModelMissing(
            f"{', '.join(missing)} not in {store.folder}; `mirage models pull {pull}` gets what is missing"
        )
    return needed


def _voice(settings: Settings) -> str:
    """Return the name of the voice that is spoken with."""
    store = model_store(settings)
    voices = store.voices()
    if settings.voice_model is not None:
        wanted = f"{manifest.VOICES}{settings.voice_model.removesuffix('.onnx')}.onnx"
        if wanted not in voices:
            known = ", ".join(name.removeprefix(manifest.VOICES).removesuffix(".onnx") for name in voices) or "none"
            raise ModelMissing(f"MIRAGE_VOICE_MODEL={settings.voice_model} is not in {store.folder}; there: {known}")
        return wanted
    if not voices:
        raise ModelMissing(f"there is no voice in {store.folder}; `mirage models add-voice FILE` adds one")
    if len(voices) > 1:
        raise Misconfigured(f"several voices are in {store.folder}: {', '.join(voices)}; set MIRAGE_VOICE_MODEL to one")
    return voices[0]


def _choose(
    variable: str, asked: str, settings: Settings, models: Callable[[Settings], tuple[str, ...]], *, verify: bool
) -> EngineChoice:
    """Return what runs. Without `verify` the caller loads the models, which checks them, and minds what that raises."""
    if asked == EMBEDDED:
        return EngineChoice(EMBEDDED, f"{variable}=embedded")
    try:
        needed = models(settings)
        from workers.models.runtime import Runtime  # noqa: PLC0415 - loads ONNX Runtime: only where models are

        runtime = Runtime(settings.provider)
        if asked == AUTO and not runtime.accelerated:
            return EngineChoice(
                EMBEDDED,
                "the neural engine's models are there, but no GPU: on a CPU it is far from real time. "
                f"{variable}=neural forces it",
            )
        for name in needed if verify else ():
            model_store(settings).check(name)
    except Misconfigured as error:
        return _instead(variable, asked, error)
    where = runtime.provider if runtime.accelerated else f"{runtime.provider}, far from real time"
    return EngineChoice(NEURAL, f"every model verifies; on {where}")


def _loaded(
    variable: str,
    asked: str,
    settings: Settings,
    models: Callable[[Settings], tuple[str, ...]],
    load: Callable[[Settings], EngineT],
) -> tuple[EngineChoice, EngineT | None]:
    """Return the choice, and the neural engine where it is that; one that does not load is no choice."""
    choice = _choose(variable, asked, settings, models, verify=False)
    if choice.engine != NEURAL:
        return choice, None
    try:
        return choice, load(settings)
    except Misconfigured as error:
        return _instead(variable, asked, error), None


def _instead(variable: str, asked: str, error: Misconfigured) -> EngineChoice:
    """Return what runs in place of the neural engine, which cannot; raises that where it was asked for by name."""
    if asked == AUTO:
        return EngineChoice(EMBEDDED, f"the neural engine cannot run: {error}")
    raise type(error)(f"{variable}=neural cannot run: {error}") from error
