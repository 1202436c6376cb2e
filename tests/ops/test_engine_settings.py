"""Every setting of the neural engines reaches the engine that a worker loads: on stand-in models, read from a store."""

import inspect
import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from ops.engines import choose_face, choose_voice, face_engine, face_enrollers, model_store, voice_engine
from ops.engines import voice_enrollers as enrollers
from ops.enrolment import decode_image, decode_wav
from ops.media_wiring import video_factory
from ops.settings import Settings, read
from ops.shipped_media import media_file
from schemas.bus.base import Planes
from schemas.errors import Misconfigured, ModelRefused
from tests.workers.video.neural.standins import detector_graph, recogniser_graph, swapper_graph
from tests.workers.video.neural.test_codeformer import graph as codeformer_graph
from tests.workers.voice.neural.standins import encoder, pitch_finder
from tests.workers.voice.neural.standins import voice as synthesiser
from workers.engine_thread import EngineThread
from workers.models import manifest
from workers.models.store import ModelStore
from workers.video.neural.codeformer import CodeFormerEnhancer
from workers.video.neural.engine import NeuralFaceEngine
from workers.voice.neural import template
from workers.voice.neural.engine import NeuralVoiceEngine
from workers.voice.neural.retrieval import ExactIndex, FaissIndex
from workers.voice.neural.settings import NeuralVoiceSettings

MODELS = {
    manifest.DETECTOR: detector_graph(),
    manifest.RECOGNISER: recogniser_graph(),
    manifest.SWAPPER: swapper_graph(fixed=True),
    manifest.CONTENT_ENCODER: encoder(),
    manifest.PITCH: pitch_finder(),
    "voices/anna.onnx": synthesiser(),
}


def put(store: ModelStore, models: dict[str, bytes]) -> None:
    for name, graph in models.items():
        store.put(name, graph, origin="built by the tests", at="2026-01-01T00:00:00+00:00")


def settings(folder: Path, **given: str) -> Settings:
    environ = {
        "MIRAGE_DATA_DIR": str(folder),
        "MIRAGE_PROVIDER": "cpu",
        "MIRAGE_ENGINE": "neural",
        "MIRAGE_VOICE_ENGINE": "neural",
    }
    return read(environ | given)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a data directory with every model that the engines cannot do without."""
    put(model_store(Settings(data_dir=tmp_path)), MODELS)
    return tmp_path


def loaded_face(chosen: Settings) -> NeuralFaceEngine:
    engine = face_engine(chosen)
    assert isinstance(engine, NeuralFaceEngine)
    return engine


def loaded_voice(chosen: Settings) -> NeuralVoiceEngine:
    engine = voice_engine(chosen)
    assert isinstance(engine, NeuralVoiceEngine)
    return engine


@pytest.mark.parametrize(
    ("variable", "given", "field", "value"),
    [
        ("MIRAGE_VOICE_OVERLAP_MS", "12", "overlap_ms", 12),
        ("MIRAGE_VOICE_SEMITONES", "-3.5", "semitones", -3.5),
        ("MIRAGE_VOICE_FORMANTS", "1.5", "formant_semitones", 1.5),
        ("MIRAGE_VOICE_INDEX_RATE", "0.25", "index_rate", 0.25),
        ("MIRAGE_VOICE_FIXED_NOISE", "1", "fixed_noise", True),
        ("MIRAGE_VOICE_FIXED_BLOCKS", "1", "fixed_blocks", True),
    ],
)
def test_a_setting_of_the_voice_is_the_loaded_engines_own(
    folder: Path, variable: str, given: str, field: str, value: object
) -> None:
    engine = loaded_voice(settings(folder, **{variable: given}))
    assert engine._chain.settings == replace(NeuralVoiceSettings(), **{field: value})  # type: ignore[arg-type]


class FaissFile:
    """What `faiss` makes of a file: here its rows, as float32."""

    metric_type = 1

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._rows = np.frombuffer(data.tobytes(), np.float32).reshape(-1, 768)
        self.ntotal, self.d = self._rows.shape

    def search(self, features: NDArray[np.float32], count: int) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
        assert count <= self.ntotal
        return ExactIndex(self._rows[:count]).search(features)

    def reconstruct_n(self, start: int, count: int) -> NDArray[np.float32]:
        return self._rows[start : start + count]


@pytest.fixture
def faiss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for faiss, which the tests' environment need not have."""
    module = ModuleType("faiss")
    module.__spec__ = ModuleSpec("faiss", None)
    kinds = {"IndexFlat": FaissFile, "IndexFlatL2": None, "IndexFlatIP": None, "IndexIVFFlat": None}
    said = {"METRIC_L2": FaissFile.metric_type, "deserialize_index": FaissFile, "omp_set_num_threads": int}
    vars(module).update(kinds | said | {"set_deserialization_vector_byte_limit": int})
    monkeypatch.setitem(sys.modules, "faiss", module)


@pytest.mark.usefixtures("faiss")
def test_the_index_beside_a_voice_is_looked_up_in_where_a_rate_says_so(folder: Path) -> None:
    """And enrolment then keeps no features of its own."""
    pulled, plain = settings(folder, MIRAGE_VOICE_INDEX_RATE="0.5"), settings(folder)
    speech = decode_wav(media_file("speaker_b.wav").read_bytes())
    assert loaded_voice(pulled)._index is None
    assert template.decode(enrollers(pulled)[1].enrol(speech)).features is not None
    put(model_store(pulled), {"voices/anna.index": np.ones((9, 768), np.float32).tobytes()})
    assert isinstance(loaded_voice(pulled)._index, FaissIndex)
    assert template.decode(enrollers(pulled)[1].enrol(speech)).features is None
    assert loaded_voice(plain)._index is None


@pytest.mark.usefixtures("faiss")
def test_an_index_that_does_not_verify_is_found_before_a_worker_starts(folder: Path) -> None:
    pulled = settings(folder, MIRAGE_VOICE_INDEX_RATE="0.5")
    put(model_store(pulled), {"voices/anna.index": bytes(3072)})
    assert choose_voice(pulled).engine == "neural"
    model_store(pulled).path("voices/anna.index").write_bytes(bytes(3071) + b"x")
    with pytest.raises(ModelRefused, match=r"voices/anna\.index .* expected"):
        choose_voice(pulled)


@pytest.mark.parametrize(
    ("package", "given"),
    [
        ("onnx", {}),
        ("swift_f0", {"MIRAGE_VOICE_F0": "swiftf0"}),
        ("faiss", {"MIRAGE_VOICE_INDEX_RATE": "0.5"}),
    ],
)
def test_a_package_that_the_voice_needs_is_missed_before_a_worker_starts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, given: dict[str, str]
) -> None:
    """The default installation has none of them: what explains and what loads say the same, and name the extra."""
    chosen = settings(folder, **given)
    put(model_store(chosen), {"voices/anna.index": np.ones((9, 768), np.float32).tobytes()})
    monkeypatch.setitem(sys.modules, package, None)  # as Python has it of a package that is not there
    for choose in (choose_voice, voice_engine):
        with pytest.raises(
            Misconfigured,
            match=rf"the neural voice needs {package}, .*the extra neural .*pip install -e '.\[neural\]'",
        ):
            choose(chosen)
    choice = choose_voice(replace(chosen, voice_engine="auto"))
    assert (choice.engine, f"needs {package}" in choice.reason) == ("embedded", True)
    assert "neural" in {maker.name for maker in enrollers(settings(folder))}  # which needs none of them


def test_codeformer_restores_as_faithfully_and_as_often_as_set(folder: Path) -> None:
    given = {"MIRAGE_CODEFORMER_FIDELITY": "0.25", "MIRAGE_CODEFORMER_EVERY": "7"}
    put(model_store(settings(folder)), {manifest.CODEFORMER: codeformer_graph()})
    enhancer = loaded_face(settings(folder, **given))._pipeline._enhancer
    assert isinstance(enhancer, CodeFormerEnhancer)
    assert (enhancer._fidelity, enhancer._every) == (0.25, 7)
    assert loaded_face(settings(folder, MIRAGE_CODEFORMER_EVERY="0"))._pipeline._enhancer is None


def test_a_codeformer_that_does_not_verify_is_found_before_a_worker_starts(folder: Path) -> None:
    store = model_store(settings(folder))
    put(store, {manifest.CODEFORMER: codeformer_graph()})
    data = store.path(manifest.CODEFORMER).read_bytes()
    store.path(manifest.CODEFORMER).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelRefused, match=r"codeformer\.onnx .* expected"):
        choose_face(settings(folder))
    assert choose_face(settings(folder, MIRAGE_CODEFORMER_EVERY="0")).engine == "neural"


def test_the_full_precision_swapper_is_read_where_it_is_asked_for(folder: Path) -> None:
    """By the engine and by enrolment: the other file is not even there."""
    chosen = settings(folder, MIRAGE_INSWAPPER="fp32")
    store = model_store(chosen)
    put(store, {manifest.SWAPPER_FP32: swapper_graph(fixed=True)})
    store.path(manifest.SWAPPER).unlink()
    portrait = decode_image(media_file("portrait.png").read_bytes())
    templates = {maker.name: maker.enrol(portrait) for maker in face_enrollers(chosen)}
    assert templates["neural"] == loaded_face(chosen).enrol(portrait)


@pytest.mark.parametrize(("given", "told"), [("0", 0), ("1", 1)])
def test_cuda_graphs_are_asked_of_the_runtime(folder: Path, given: str, told: int) -> None:
    """On a CPU it says that it records none."""
    with capture_logs() as lines:
        loaded_face(settings(folder, MIRAGE_CUDA_GRAPHS=given))
    assert [line["event"] for line in lines].count("graphs_are_not_recorded") == told


async def test_frames_wait_for_others_as_long_as_the_window_is_set(folder: Path, planes: Planes) -> None:
    chosen = settings(folder, MIRAGE_BATCH_WINDOW_MS="3")
    factory = video_factory(planes, chosen, loaded_face(chosen), EngineThread())
    assert inspect.getclosurevars(factory).nonlocals["faces"]._window_s == 0.003
