"""The stream, end to end on stand-ins: pitch follows, joins do not click, cuts do not matter, faults are silent."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.workers.voice.neural.loading import load, worn
from tests.workers.voice.neural.standins import encoder, voice
from tests.workers.voice.speech import LADDER, Held, convert, results
from tests.workers.voice.test_f0 import follow, harmonics
from workers.models.contract import Tensor
from workers.models.runtime import Runtime, resident_bytes
from workers.voice.engine import SAMPLE_RATE, Pcm, VoiceOutcome
from workers.voice.grid import Samples
from workers.voice.measure import click_ratio, leaked_windows
from workers.voice.neural import content
from workers.voice.neural.chain import Target, VoiceChain
from workers.voice.neural.content import ContentEncoder
from workers.voice.neural.engine import NeuralVoiceEngine
from workers.voice.neural.f0 import TrackerStream
from workers.voice.neural.resample import DELAY
from workers.voice.neural.settings import F0Name, NeuralVoiceSettings
from workers.voice.neural.stream import CONTEXT, NeuralStream
from workers.voice.neural.synthesiser import Synthesiser
from workers.voice.neural.windows import LOOKAHEAD

SECONDS = 4
TRACK = 140 * 2 ** (0.2 * np.sin(2 * np.pi * 0.7 * np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE))  # Hz
PLAIN = NeuralVoiceSettings(match_pitch=False)


def to_pcm(sound: Samples) -> Pcm:
    return np.asarray(np.rint(sound * 32767), np.int16)


GLIDE = to_pcm(harmonics(TRACK))


def heard(output: Pcm) -> tuple[Samples, Samples]:
    """Return tracked F0 of an output and the pitch that its input had there, both Hz, after the first half second."""
    whole = output[: len(output) // 512 * 512]
    f0, centres = follow(whole.astype(np.float64) / 32768)
    source = centres - LOOKAHEAD
    inside = (source > SAMPLE_RATE // 2) & (source < len(GLIDE))
    return f0[inside], TRACK[source[inside]]


@pytest.mark.parametrize("semitones", [-5.0, 0.0, 4.0])
@pytest.mark.parametrize("f0", ["swiftf0", "embedded"])
def test_the_output_has_the_input_s_pitch_moved_as_asked(f0: F0Name, semitones: float) -> None:
    engine = load(f0=f0, settings=NeuralVoiceSettings(match_pitch=False, semitones=semitones))
    found, source = heard(convert(engine.open(worn(engine)), GLIDE))
    cents = 1200 * np.log2(np.maximum(found, 1) / source) - 100 * semitones
    assert np.percentile(np.abs(cents), 95) < 25


@pytest.mark.parametrize("family", ["w-okada", "fork", "rvc-project"])
@pytest.mark.parametrize("rate", [32_000, 40_000, 48_000])
def test_every_family_and_rate_follows(family: str, rate: int) -> None:
    engine = load(voice(family, rate=rate), f0="embedded", settings=PLAIN)
    found, source = heard(convert(engine.open(worn(engine)), GLIDE))
    assert np.percentile(np.abs(1200 * np.log2(np.maximum(found, 1) / source)), 95) < 25


def test_rmvpe_is_followed_as_far_as_its_standin_can() -> None:
    engine = load(settings=PLAIN)
    found, source = heard(convert(engine.open(worn(engine)), GLIDE))
    assert np.percentile(np.abs(12 * np.log2(np.maximum(found, 1) / source)), 95) < 2


def test_the_mean_is_moved_to_the_target_s() -> None:
    """A speaker at 120 Hz comes out at the target's 200, to 20 cents, once two seconds were heard."""
    engine = load(f0="embedded")
    spoken = to_pcm(harmonics(np.full(4 * SAMPLE_RATE, 120.0)))
    output = convert(engine.open(worn(engine, hertz=200.0)), spoken)
    f0, _ = follow(output[3 * SAMPLE_RATE // 512 * 512 : len(output) // 512 * 512] / 32768)
    assert 1200 * np.abs(np.log2(np.median(f0) / 200)) < 20


def test_a_fade_does_not_click_and_a_hard_join_does() -> None:
    """The reason why the specification's "overlap-add disabled" is a switch and not the default."""
    shares = {}
    for overlap_ms in (0, 10, 20, 30):
        chosen = NeuralVoiceSettings(match_pitch=False, overlap_ms=overlap_ms)
        engine = load(f0="embedded", settings=chosen)
        output = convert(engine.open(worn(engine)), GLIDE)
        splices = np.arange(4 * 3072, len(output), 3072) + DELAY
        shares[overlap_ms] = np.mean(click_ratio(output, splices) > 20)
    assert shares[0] > 0.9
    assert max(shares[10], shares[20], shares[30]) <= 0.07


@pytest.fixture(scope="module", params=["rmvpe", "embedded"])
def fixed(request: pytest.FixtureRequest) -> NeuralVoiceEngine:
    """Return an engine that runs a window per 512 samples."""
    return load(voice("rvc-project"), f0=request.param, settings=NeuralVoiceSettings(fixed_blocks=True))


@settings(max_examples=5)
@given(sizes=st.lists(st.sampled_from(LADDER), min_size=1, max_size=8))
def test_fixed_blocks_make_the_output_independent_of_the_chunks(
    sizes: list[int], fixed: NeuralVoiceEngine, voices: MappingProxyType[str, Held]
) -> None:
    """Bit for bit, noise and all, with a window per 512 samples."""
    template = worn(fixed)
    pcm = voices["a"].held_out[: SAMPLE_RATE // 512 * 512]
    one = convert(fixed.open(template), pcm, sizes)
    np.testing.assert_array_equal(one, convert(fixed.open(template), pcm, (3072,)))


@pytest.mark.parametrize("sizes", [(1536,), (5120,), LADDER, (512, 5120)])
def test_a_window_per_chunk_changes_only_where_windows_join(sizes: tuple[int, ...]) -> None:
    """The frames are the same frames, so pitch stays; the phase of the sine starts with the window."""
    engine = load(f0="embedded", settings=PLAIN)
    template = worn(engine)
    one, other = (convert(engine.open(template), GLIDE, each) for each in ((3072,), sizes))
    (first, _), (second, _) = heard(one), heard(other)
    cents = np.abs(1200 * np.log2(np.maximum(first, 1) / np.maximum(second, 1)))
    assert np.percentile(cents, 95) < 25
    assert one.std() == pytest.approx(other.std(), rel=0.05)
    splices = np.cumsum([sizes[n % len(sizes)] for n in range(200)])
    live = splices[(splices > 4 * 3072) & (splices < len(other) - 600)] + DELAY
    assert np.mean(click_ratio(other, live) > 20) <= 0.07


def test_a_long_chunk_is_several_blocks(voices: MappingProxyType[str, Held]) -> None:
    engine = load(f0="embedded")
    template = worn(engine)
    pcm = voices["a"].held_out[:51_200]
    np.testing.assert_array_equal(
        convert(engine.open(template), pcm, (51_200,)), convert(engine.open(template), pcm, (5120,))
    )


def test_a_primed_stream_goes_on_as_before() -> None:
    """A new worker that is given the last seconds goes on at once, at the same pitch and level, and joins its own."""
    engine = load(f0="embedded", settings=PLAIN)
    template = worn(engine)
    before = convert(engine.open(template), GLIDE)
    at = 13 * 3072
    stream = engine.open(template)
    stream.prime(GLIDE[max(0, at - CONTEXT) : at])
    after = convert(stream, GLIDE[at:])
    joined = np.concatenate((before[:at], after))
    for part in np.split(np.arange(3072), 6):
        assert 0.8 < after[part].std() / before[at + part].std() < 1.25
    assert click_ratio(after, np.arange(3072, len(after) - 600, 3072) + DELAY).max() <= 20
    found, source = heard(joined)
    assert np.percentile(np.abs(1200 * np.log2(np.maximum(found, 1) / source)), 95) < 25


def test_priming_teaches_the_speaker_s_pitch(voices: MappingProxyType[str, Held]) -> None:
    """The first chunk after a takeover is as high as those before it."""
    engine = load(f0="embedded")
    template = worn(engine)
    whole, fresh = engine.open(template), engine.open(template)
    pcm = voices["a"].held_out
    for result in results(whole, pcm[:CONTEXT]):
        assert result.outcome is not VoiceOutcome.SILENCED
    fresh.prime(pcm[:CONTEXT])
    assert fresh._match.semitones == pytest.approx(whole._match.semitones, abs=0.2)  # type: ignore[attr-defined]


def test_not_a_number_is_silence_and_the_stream_recovers() -> None:
    """A synthesiser that fails on high pitch: those chunks are silent, the chunks after them are as from the start."""
    engine = load(voice(poisoned=True), f0="embedded", settings=PLAIN)
    template = worn(engine)
    high, low = to_pcm(harmonics(np.full(30_720, 350.0))), to_pcm(harmonics(np.full(30_720, 150.0)))
    found = results(engine.open(template), np.concatenate((low, high, low)))
    outcomes = [result.outcome for result in found]
    assert VoiceOutcome.SILENCED in outcomes[10:20]
    assert outcomes[5] is outcomes[-1] is VoiceOutcome.CONVERTED
    for result in found:
        assert result.pcm.any() == (result.outcome is VoiceOutcome.CONVERTED)


def test_nothing_of_the_original_is_heard(voices: MappingProxyType[str, Held]) -> None:
    engine = load()
    pcm = voices["a"].held_out[: 6 * SAMPLE_RATE]
    assert leaked_windows(pcm, convert(engine.open(worn(engine)), pcm)) == []


def test_speech_then_silence_then_speech(neural_engine: NeuralVoiceEngine) -> None:
    """Silence is gated, costs no network, and nothing rings on in it."""
    found = results(
        neural_engine.open(worn(neural_engine)),
        np.concatenate((GLIDE[:30_720], np.zeros(30_720, np.int16), GLIDE[:30_720])),
    )
    assert found[5].outcome is VoiceOutcome.CONVERTED
    for result in found[13:20]:
        assert result.outcome is VoiceOutcome.GATED
        assert not result.pcm.any()
        assert result.stages_us["convert"] == 0
    assert any(result.outcome is VoiceOutcome.CONVERTED for result in found[20:23])


def test_a_word_s_first_moment_is_not_cut(neural_engine: NeuralVoiceEngine) -> None:
    """The gate opens as early before a sound as the sound comes out late."""
    at = 20 * 512
    pcm = np.concatenate((np.zeros(at, np.int16), GLIDE[:20_480]))
    output = convert(neural_engine.open(worn(neural_engine)), pcm, (512,))
    first = int(np.flatnonzero(np.abs(output) > 500)[0])
    assert abs(first - (at + LOOKAHEAD)) < 480  # the mel frame of 64 ms is the standin's, and the real RMVPE's


def test_a_thousand_chunks_do_not_grow(neural_engine: NeuralVoiceEngine) -> None:
    """At most 5 MB, once warm."""
    stream = neural_engine.open(worn(neural_engine))
    chunks = [GLIDE[at : at + 3072] for at in range(0, 20 * 3072, 3072)]
    for chunk in chunks * 5:
        stream.process(chunk)
    before = resident_bytes()
    for chunk in chunks * 50:
        assert stream.process(chunk).outcome is VoiceOutcome.CONVERTED
    after = resident_bytes()
    assert before is not None, "this system does not tell a process's memory"
    assert after is not None
    assert after - before <= 5_000_000


class Humming:
    """A voice that hums at 300 Hz whatever it is asked, so that only the gate decides what is heard."""

    inputs = tuple(
        Tensor(name, kind, shape)
        for name, kind, shape in (
            ("feats", "float32", (1, None, 768)),
            ("p_len", "int64", (1,)),
            ("pitch", "int64", (1, None)),
            ("pitchf", "float32", (1, None)),
            ("sid", "int64", (1,)),
        )
    )
    metadata: Mapping[str, str] = MappingProxyType({})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        samples = np.arange(feeds["pitchf"].shape[1] * 480)
        return [np.asarray(0.5 * np.sin(2 * np.pi * 300 / 48_000 * samples), np.float32)]


def humming() -> NeuralStream:
    """Return a stream of that voice."""
    encode = ContentEncoder(Runtime("cpu").open(encoder(), content.CONTRACT, label="encoder"))
    unmatched = NeuralVoiceSettings(match_pitch=False, match_level=False)
    chain = VoiceChain(encode, TrackerStream, Synthesiser(Humming(), label="hum"), unmatched)
    return NeuralStream(chain, Target(5.0, None))


def test_after_a_pause_nothing_is_left_of_what_was_before() -> None:
    """Speech behind a pause sounds as if the pause had gone on for ever."""
    pause = np.zeros(40 * 512, np.int16)
    spoke, slept = GLIDE[:30_720], np.zeros(30_720, np.int16)
    outputs = [convert(humming(), np.concatenate((before, pause, GLIDE[:15_360])), (512,)) for before in (spoke, slept)]
    assert outputs[1].any()
    np.testing.assert_array_equal(outputs[0][30_720 + 10_240 :], outputs[1][30_720 + 10_240 :])


def test_the_gate_is_that_of_the_sound_that_leaves() -> None:
    """It opens over the 32 ms before a loud block, and closes 160 ms after the last, both `LOOKAHEAD` later."""
    loud_from, loud_to = 20 * 512, 40 * 512
    pcm = np.zeros(70 * 512, np.int16)
    pcm[loud_from:loud_to] = 8000 * np.sin(2 * np.pi * 150 / SAMPLE_RATE * np.arange(loud_to - loud_from))
    output = convert(humming(), pcm, (512,))
    heard_at = np.flatnonzero(np.abs(output) > 20)
    assert heard_at[0] - LOOKAHEAD == pytest.approx(loud_from - 512, abs=64)
    assert heard_at[-1] - LOOKAHEAD == pytest.approx(loud_to + 6 * 512, abs=64)
    opening = np.abs(output[loud_from - 512 + LOOKAHEAD :][:512])
    peaks = opening.reshape(4, 128).max(axis=1) / np.abs(output).max()
    np.testing.assert_allclose(peaks, [0.25, 0.5, 0.75, 1], atol=0.1)


@pytest.mark.parametrize("sizes", [(512,), (3072,), LADDER])
def test_every_frame_of_the_speaker_is_learned_once(sizes: tuple[int, ...]) -> None:
    """Windows overlap; a mean that counted frames again would follow the last word."""
    engine = load(f0="embedded")
    stream = engine.open(worn(engine))
    spoken = to_pcm(harmonics(np.full(2 * SAMPLE_RATE, 150.0)))
    converted = convert(stream, spoken, sizes)
    due = (len(converted) - LOOKAHEAD + DELAY) // 160
    learned = stream._match._frames  # type: ignore[attr-defined]
    assert due - 15 <= learned <= due  # the tracker is not sure of the very first frames
