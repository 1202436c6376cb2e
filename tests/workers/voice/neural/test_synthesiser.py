"""Voices as their exporters wrote them: what is accepted, how it is fed, what is refused and with which words."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from schemas.errors import ModelRefused
from tests.workers.voice.neural.standins import FLOAT, INT, constant, graph, node, voice
from workers.models.contract import Tensor
from workers.models.runtime import Runtime
from workers.voice.neural.fixed_noise import fix_noise
from workers.voice.neural.formant import synthesise
from workers.voice.neural.noise import FrameNoise
from workers.voice.neural.synthesiser import Synthesiser, load_synthesiser
from workers.voice.neural.windows import Sound

CONTENT = np.zeros((100, 768), np.float32)


def load(file: bytes) -> Synthesiser:
    return load_synthesiser(Runtime("cpu"), file, label="voices/x.onnx")


def peak_hz(sound: Sound, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 19))
    return float(np.argmax(spectrum) * rate / (1 << 19))


@pytest.mark.parametrize("family", ["w-okada", "fork", "rvc-project"])
@pytest.mark.parametrize("rate", [32_000, 40_000, 48_000])
def test_every_family_sings_the_pitch_it_is_given(family: str, rate: int) -> None:
    synthesiser = load(voice(family, rate=rate))
    assert (synthesiser.rate, synthesiser.hop, synthesiser.repeatable) == (rate, rate // 100, True)
    sound = synthesiser(CONTENT, np.full(100, 220, np.float32), 0)
    assert sound.shape == (rate,)
    assert peak_hz(sound, rate) == pytest.approx(220, abs=0.5)


@pytest.mark.parametrize("family", ["w-okada", "rvc-project"])
def test_half_precision_is_accepted_where_the_sine_source_is_single(family: str) -> None:
    synthesiser = load(voice(family, half=True))
    sound = synthesiser(CONTENT, np.full(100, 330, np.float32), 0)
    assert sound.dtype == np.float32
    assert peak_hz(sound, 48_000) == pytest.approx(330, abs=0.5)


def test_half_precision_in_the_sine_source_is_refused() -> None:
    with pytest.raises(ModelRefused, match=r"sine source in half precision: CumSum \(half_step\)"):
        load(voice(half_phase=True))


@pytest.mark.parametrize("family", ["w-okada", "rvc-project"])
@pytest.mark.parametrize("length", [32, 200])
def test_a_voice_locked_to_a_length_is_refused(family: str, length: int) -> None:
    """Its axes are declared free; only running it tells."""
    with pytest.raises(ModelRefused, match="locked to the length it was exported with"):
        load(voice(family, locked=length))


def test_a_noted_rate_that_is_not_the_real_one_is_refused() -> None:
    with pytest.raises(ModelRefused, match="notes 40000 Hz, but gives 48000"):
        load(voice(noted_rate=40_000))


def test_an_unknown_rate_is_refused() -> None:
    with pytest.raises(ModelRefused, match="gives 24000 Hz; 32000, 40000, 48000"):
        load(voice("rvc-project", rate=24_000))


def test_noise_drawn_inside_is_noticed() -> None:
    assert not load(voice(noisy=True)).repeatable


@pytest.mark.parametrize("family", ["w-okada", "rvc-project"])
@pytest.mark.parametrize("half", [False, True])
def test_noise_drawn_inside_can_be_fixed(family: str, half: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The same window has the same noise, another window other noise, and it is as loud as it was."""
    drawn, fixed = (
        load_synthesiser(Runtime("cpu"), voice(family, noisy=True, half=half), label="x", fixed_noise=fixed)
        for fixed in (False, True)
    )
    assert fixed.repeatable
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(fixed(CONTENT, silence, 7), fixed(CONTENT, silence, 7))
    one, other = fixed(CONTENT, silence, 7), fixed(CONTENT, silence, 9)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05
    assert one.std() == pytest.approx(drawn(CONTENT, silence, 7).std(), rel=0.05)


def test_a_graph_that_draws_nothing_is_not_touched() -> None:
    assert fix_noise(voice()) == voice()


def test_not_a_number_is_refused_at_load_and_an_error_later() -> None:
    late = load(voice(poisoned=True))
    with pytest.raises(FloatingPointError, match="not finite"):
        late(CONTENT, np.full(100, 310, np.float32), 0)
    always = graph(
        [*_echo("p"), node("Div", ["nothing", "nothing"], "nan"), node("Add", ["p", "nan"], "audio")],
        OKADA,
        [("audio", FLOAT, ["n"])],
        ECHO_CONSTANTS,
    )
    with pytest.raises(ModelRefused, match="not finite on this machine; try float32"):
        load(always)


OKADA: list[tuple[str, int, list[Any]]] = [
    ("feats", FLOAT, [1, "t", 768]),
    ("p_len", INT, [1]),
    ("pitch", INT, [1, "t"]),
    ("pitchf", FLOAT, [1, "t"]),
    ("sid", INT, [1]),
]
ECHO_CONSTANTS = [
    constant("hop", np.array([480, 1])),
    constant("flat", np.array([-1])),
    constant("nothing", np.float32(0)),
]


def _echo(output: str) -> list[object]:
    """Return nodes that give 480 zeros a frame."""
    return [
        node("Mul", ["pitchf", "nothing"], "zeros"),
        node("Expand", ["zeros", "hop"], "many"),
        node("Reshape", ["many", "flat"], output),
    ]


def test_silence_is_refused() -> None:
    """Half precision is known for it."""
    with pytest.raises(ModelRefused, match="gives silence for a steady tone"):
        load(graph(_echo("audio"), OKADA, [("audio", FLOAT, ["n"])], ECHO_CONSTANTS))


def test_other_names_are_refused_with_those_that_are_accepted() -> None:
    renamed = [("units" if name == "feats" else name, kind, shape) for name, kind, shape in OKADA]
    with pytest.raises(ModelRefused, match=r"no input called feats .*Accepted are inputs .*phone.*; found are .*units"):
        load(graph(_echo("audio"), renamed, [("audio", FLOAT, ["n"])], ECHO_CONSTANTS))


def test_a_voice_without_pitch_is_refused() -> None:
    nameless = [value for value in OKADA if value[0] not in ("pitch", "pitchf")]
    nodes = [node("Mul", ["feats", "nothing"], "zeros"), node("Reshape", ["zeros", "flat"], "audio")]
    with pytest.raises(ModelRefused, match="5 inputs expected, 3 found"):
        load(graph(nodes, nameless, [("audio", FLOAT, ["n"])], ECHO_CONSTANTS))


def test_a_voice_of_rvc_v1_is_refused() -> None:
    v1 = [(name, kind, [1, "t", 256] if name == "feats" else shape) for name, kind, shape in OKADA]
    with pytest.raises(ModelRefused, match="768 expected, 256 found"):
        load(graph(_echo("audio"), v1, [("audio", FLOAT, ["n"])], ECHO_CONSTANTS))


@pytest.mark.parametrize(
    "noted", ["[1", "[1]", '{"samplingRate":"fast"}', '{"samplingRate":[1]}', '{"samplingRate":1e999}']
)
def test_metadata_that_cannot_be_read_is_refused(noted: str) -> None:
    nodes = [
        node("Expand", ["pitchf", "hop"], "many"),
        node("Reshape", ["many", "flat"], "audio"),
    ]
    with pytest.raises(ModelRefused, match="metadata that cannot be read"):
        load(graph(nodes, OKADA, [("audio", FLOAT, ["n"])], ECHO_CONSTANTS, {"metadata": noted}))


def test_noise_is_a_function_of_the_frame() -> None:
    noise = FrameNoise()
    whole = noise(-40, 400)
    assert whole.shape == (192, 400)
    assert 0.65 < whole.std() < 0.68
    np.testing.assert_array_equal(noise(100, 30), whole[:, 140:170])
    np.testing.assert_array_equal(FrameNoise()(2040, 20)[:, 8:], whole[:, 40:52])


class Throat:
    """A voice of one harmonic at the pitch, and one resonance that rings at 1 kHz whatever the pitch."""

    inputs = tuple(Tensor(name, "int64" if kind == INT else "float32", tuple(shape)) for name, kind, shape in OKADA)
    metadata: Mapping[str, str] = MappingProxyType({})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        f0 = np.repeat(feeds["pitchf"][0], 480)
        sine = np.sin(2 * np.pi * np.cumsum(f0) / 48_000) * (f0 > 0)
        ring = 0.2 * np.sin(2 * np.pi * 1000 * np.arange(len(f0)) / 48_000)
        return [np.asarray(sine + ring, np.float32)]


@pytest.mark.parametrize("semitones", [-4.0, 3.0])
def test_formants_move_without_pitch_or_length(semitones: float) -> None:
    """The resonance moves by the interval; the pitch, and every frame's place, stay."""
    f0 = np.where(np.arange(100) < 50, 0, 200).astype(np.float32)
    sound = synthesise(Synthesiser(Throat(), label="throat"), CONTENT, f0, 0, semitones)
    assert sound.shape == (48_000,)
    resonance, spoken = sound[2000:22_000], sound[26_000:]
    assert peak_hz(resonance, 48_000) == pytest.approx(1000 * 2 ** (semitones / 12), rel=0.01)
    assert peak_hz(spoken, 48_000) == pytest.approx(200, abs=1)
    assert np.flatnonzero(np.abs(sound) > 0.3)[0] == pytest.approx(24_000, abs=600)
