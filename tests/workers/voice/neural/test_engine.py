"""The engine: what it is opened from, what a template binds, whom it refuses."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from structlog.testing import capture_logs

from schemas.errors import CodecError, EnrolmentRefused, Misconfigured, ModelMissing, ModelRefused
from schemas.names import Kind
from tests.workers.voice.neural.loading import VOICE, fill, load, worn
from tests.workers.voice.neural.standins import encoder, locked, pitch_finder, times, voice
from tests.workers.voice.speech import Held, results
from workers.faults import STAGES
from workers.models.manifest import CONTENT_ENCODER, PITCH
from workers.models.runtime import Runtime
from workers.voice.engine import SAMPLE_RATE, VoiceOutcome
from workers.voice.neural import template
from workers.voice.neural.engine import NeuralVoiceEngine, load_neural_voice
from workers.voice.neural.enrolment import load_enroller
from workers.voice.neural.settings import LONGEST_OVERLAP_MS, NeuralVoiceSettings
from workers.voice.neural.template import NeuralVoiceTemplate

WHO = NeuralVoiceTemplate("voices/x.onnx", "ab" * 32, 5.25, np.ones((3, 768), np.float16))


def test_a_template_survives_its_bytes() -> None:
    found = template.decode(template.encode(WHO))
    assert (found.voice, found.sha256, found.log_f0) == (WHO.voice, WHO.sha256, WHO.log_f0)
    assert found.features is not None
    np.testing.assert_array_equal(found.features, np.ones((3, 768)))


def test_any_changed_byte_is_found() -> None:
    data = template.encode(WHO)
    for at in range(0, len(data), 97):
        with pytest.raises(CodecError):
            template.decode(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
    for cut in (0, 3, 15, 16, 60, len(data) - 1):
        with pytest.raises(CodecError):
            template.decode(data[:cut])


@pytest.mark.parametrize(
    ("sha256", "log_f0", "features"),
    [
        ("ab", 5.0, None),
        ("zz" * 32, 5.0, None),
        ("ab" * 32, float("nan"), None),
        ("ab" * 32, 20.0, None),
        ("ab" * 32, 5.0, np.ones((2, 256), np.float16)),
        ("ab" * 32, 5.0, np.full((2, 768), np.nan, np.float16)),
    ],
)
def test_a_template_that_makes_no_sense_is_refused(sha256: str, log_f0: float, features: np.ndarray | None) -> None:
    with pytest.raises(CodecError, match="voice template"):
        NeuralVoiceTemplate("x", sha256, log_f0, features)


def test_enrolment_learns_how_high_the_target_speaks(neural_template: bytes) -> None:
    learned = template.decode(neural_template)
    assert learned.voice == VOICE
    assert 70 < np.exp(learned.log_f0) < 300
    assert learned.features is None


def test_a_template_is_bound_to_its_synthesiser(neural_template: bytes) -> None:
    """Another file is another person's voice: nothing was consented to it."""
    with pytest.raises(CodecError, match=r"is for voices/standin.onnx .* enrol the voice again"):
        load(voice(rate=40_000)).open(neural_template)


def test_an_embedded_template_is_refused(neural_engine: NeuralVoiceEngine) -> None:
    with pytest.raises(CodecError, match="not a voice template of the neural engine"):
        neural_engine.open(b"MVWT" + bytes(100))


def test_silence_cannot_be_enrolled(neural_engine: NeuralVoiceEngine) -> None:
    with pytest.raises(EnrolmentRefused, match="silent"):
        neural_engine.enrol(np.zeros(12 * SAMPLE_RATE, np.int16))


def test_retrieval_is_a_stage_of_its_own(voices: MappingProxyType[str, Held]) -> None:
    """With an index rate, enrolment keeps the target's features and every chunk is pulled towards them."""
    engine = load(settings=NeuralVoiceSettings(index_rate=0.5))
    enrolled = engine.enrol(voices["b"].reference)
    features = template.decode(enrolled).features
    assert features is not None
    assert 100 < len(features) < 600
    for result in results(engine.open(enrolled), voices["a"].held_out[:9216]):
        assert set(result.stages_us) == set(STAGES[Kind.VOICE]), "every stage can be slowed by name"
        assert "index" in result.stages_us
    assert results(engine.open(enrolled), voices["a"].held_out[:30_720])[-1].outcome is VoiceOutcome.CONVERTED


def test_a_voice_enrolled_without_features_is_spoken_and_the_log_says_what_to_do() -> None:
    """Whoever was enrolled before the index rate was raised is not silenced by it, and it is no riddle either."""
    pulled, plain = load(settings=NeuralVoiceSettings(index_rate=0.8)), load()
    for engine, warned in ((pulled, 1), (plain, 0)):
        with capture_logs() as lines:
            stream = engine.open(worn(engine))
        assert [line["log_level"] for line in lines] == ["warning"] * warned
        assert all("enrol it again" in line["event"] and line["index_rate"] == 0.8 for line in lines)
        assert "index" not in stream.process(np.zeros(3072, np.int16)).stages_us


@pytest.mark.parametrize("index_rate", [0.0, 0.5])
def test_enrolling_needs_no_synthesiser(tmp_path: Path, voices: MappingProxyType[str, Held], index_rate: float) -> None:
    """The process that enrols may have no GPU: its templates are the engine's own, byte for byte."""
    store = fill(tmp_path, voice())
    light = load_enroller(store, Runtime("cpu"), voice=VOICE, index_rate=index_rate)
    engine = load(settings=NeuralVoiceSettings(index_rate=index_rate))
    assert light.enrol(voices["b"].reference) == engine.enrol(voices["b"].reference)
    assert light.name == engine.name


def test_enrolling_for_a_voice_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"voices/other.onnx is not in .* add-voice"):
        load_enroller(fill(tmp_path, voice()), Runtime("cpu"), voice="voices/other.onnx")


@pytest.mark.parametrize("missing", [CONTENT_ENCODER, PITCH, VOICE])
def test_a_missing_model_is_named(tmp_path: Path, missing: str) -> None:
    store = fill(tmp_path, voice())
    (tmp_path / missing).unlink()
    with pytest.raises(ModelMissing, match=missing.replace(".", r"\.")):
        load_neural_voice(store, Runtime("cpu"), voice=VOICE)


@pytest.mark.parametrize(("spoiled", "graph"), [(CONTENT_ENCODER, encoder()), (PITCH, pitch_finder())])
@pytest.mark.parametrize(("factor", "said"), [(np.nan, "NaN or infinite"), (0.0, "0 everywhere")])
def test_a_network_whose_numbers_mean_nothing_here_is_refused_by_name(
    tmp_path: Path, spoiled: str, graph: bytes, factor: float, said: str
) -> None:
    """Half precision does that on some devices. Every chunk would be silenced, by an engine that says it is ready."""
    store = fill(tmp_path, voice())
    store.put(spoiled, times(graph, factor), origin="built by the tests", at="2026-01-01T00:00:00Z")
    with pytest.raises(ModelRefused, match=rf"{spoiled}: output .* is -?{said}.*MIRAGE_PROVIDER"):
        load_neural_voice(store, Runtime("cpu"), voice=VOICE)


@pytest.mark.parametrize(
    ("name", "graph", "axis", "length", "said"),
    [
        (CONTENT_ENCODER, encoder, 2, 5120, r"10560 samples, where \(1, 32, 768\)|\(1, 15, 768\) for 10560 samples"),
        (CONTENT_ENCODER, encoder, 2, 16_000, r"5120 samples, where \(1, 15, 768\)|\(1, 49, 768\) for 5120 samples"),
        (PITCH, pitch_finder, 2, 32, r"96 frames, where \(1, 96, 360\)|\(1, 32, 360\) for 96 frames"),
        (PITCH, pitch_finder, 2, 64, r"32 frames, where \(1, 32, 360\)|\(1, 64, 360\) for 32 frames"),
    ],
)
@pytest.mark.parametrize("fills", [False, True])
def test_a_network_that_is_locked_inside_to_a_length_is_refused_by_name(
    tmp_path: Path, name: str, graph: Callable[[], bytes], axis: int, length: int, said: str, *, fills: bool
) -> None:
    """Its declared axes are free, whichever length it was traced with: every chunk but one size would be silence."""
    store = fill(tmp_path, voice())
    spoiled = locked(graph(), axis=axis, length=length, fills=fills)
    store.put(name, spoiled, origin="built by the tests", at="2026-01-01T00:00:00Z")
    with pytest.raises(ModelRefused, match=rf"{name} (fails on|gives) ({said}).* expected.*locked"):
        load_neural_voice(store, Runtime("cpu"), voice=VOICE)


def test_without_rmvpe_another_f0_needs_no_download(tmp_path: Path) -> None:
    store = fill(tmp_path, voice())
    (tmp_path / PITCH).unlink()
    for name in ("swiftf0", "embedded"):
        assert load_neural_voice(store, Runtime("cpu"), voice=VOICE, f0=name).name == "neural"


def test_an_unknown_f0_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="'crepe'; rmvpe, swiftf0, embedded are accepted"):
        load_neural_voice(fill(tmp_path, voice()), Runtime("cpu"), voice=VOICE, f0="crepe")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap_ms": -1},
        {"overlap_ms": LONGEST_OVERLAP_MS + 1},
        {"context_ms": 50},
        {"semitones": 25.0},
        {"formant_semitones": 7.0},
        {"index_rate": 1.5},
    ],
)
def test_a_setting_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(Misconfigured, match="accepted"):
        NeuralVoiceSettings(**wrong)  # type: ignore[arg-type]
