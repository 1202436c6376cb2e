"""What every voice engine promises, run on each engine there is."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import pytest

from schemas.errors import EnrolmentRefused, InputRejected
from tests.workers.voice.neural.loading import load
from tests.workers.voice.speech import LADDER, Held, convert, results
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, VoiceEngine, VoiceOutcome

ENGINES: Mapping[str, Callable[[], VoiceEngine]] = {"embedded": EmbeddedVoiceEngine, "neural": load}
STAGES = {"encode", "f0", "convert", "post"}


@pytest.fixture(scope="module", params=sorted(ENGINES))
def any_engine(request: pytest.FixtureRequest) -> VoiceEngine:
    return ENGINES[request.param]()


@pytest.fixture(scope="module")
def any_template(any_engine: VoiceEngine, voices: MappingProxyType[str, Held]) -> bytes:
    return any_engine.enrol(voices["b"].reference)


def test_the_engine_goes_by_its_name(any_engine: VoiceEngine) -> None:
    assert type(ENGINES[any_engine.name]()) is type(any_engine)


@pytest.mark.parametrize("size", LADDER)
def test_output_is_as_long_as_its_input(
    any_engine: VoiceEngine, any_template: bytes, voices: MappingProxyType[str, Held], size: int
) -> None:
    for result in results(any_engine.open(any_template), voices["a"].held_out[: 4 * size], (size,)):
        assert result.pcm.dtype == np.int16
        assert result.pcm.shape == (size,)
        assert set(result.stages_us) == STAGES


def test_the_lookahead_is_stated_and_within_64_ms(any_engine: VoiceEngine, any_template: bytes) -> None:
    assert 0 <= any_engine.open(any_template).lookahead <= 64 * SAMPLE_RATE // 1000


def test_the_context_is_a_whole_number_of_blocks(any_engine: VoiceEngine, any_template: bytes) -> None:
    context = any_engine.open(any_template).context
    assert context > 0
    assert context % 512 == 0


def test_the_same_input_gives_the_same_output(
    any_engine: VoiceEngine, any_template: bytes, voices: MappingProxyType[str, Held]
) -> None:
    """A media replay is bit-exact, also on another instance of the engine."""
    pcm = voices["a"].held_out[: 3 * SAMPLE_RATE]
    other = ENGINES[any_engine.name]()
    np.testing.assert_array_equal(convert(any_engine.open(any_template), pcm), convert(other.open(any_template), pcm))


def test_streams_share_nothing(
    any_engine: VoiceEngine, any_template: bytes, voices: MappingProxyType[str, Held]
) -> None:
    pcm = voices["a"].held_out[: 2 * SAMPLE_RATE]
    alone = convert(any_engine.open(any_template), pcm)
    one, two = any_engine.open(any_template), any_engine.open(any_template)
    together = []
    for start in range(0, len(pcm) // 512 * 512, 3072):
        two.process(voices["b"].held_out[start : start + 3072])
        together.append(one.process(pcm[start : start + 3072 if start + 3072 <= len(pcm) else len(pcm) // 512 * 512]))
    np.testing.assert_array_equal(np.concatenate([result.pcm for result in together]), alone)


def test_no_voice_chosen_is_silence(any_engine: VoiceEngine, voices: MappingProxyType[str, Held]) -> None:
    stream = any_engine.open(None)
    stream.prime(voices["a"].held_out[:5120])
    for result in results(stream, voices["a"].held_out[:30_720]):
        assert result.outcome is VoiceOutcome.SILENCED
        assert not result.pcm.any()


def test_silence_stays_silent_and_is_called_gated(any_engine: VoiceEngine, any_template: bytes) -> None:
    for result in results(any_engine.open(any_template), np.zeros(SAMPLE_RATE, np.int16)):
        assert result.outcome is VoiceOutcome.GATED
        assert not result.pcm.any()


@pytest.mark.parametrize(
    "pcm",
    [
        np.zeros(0, np.int16),
        np.zeros(500, np.int16),
        np.zeros((2, 512), np.int16),
        np.zeros(512, np.float32),
    ],
    ids=["empty", "not whole blocks", "stereo", "float"],
)
def test_a_chunk_off_the_grid_is_rejected(any_engine: VoiceEngine, any_template: bytes, pcm: np.ndarray) -> None:
    with pytest.raises(InputRejected, match="multiple of 512"):
        any_engine.open(any_template).process(pcm)


def test_opening_refuses_a_foreign_template(any_engine: VoiceEngine) -> None:
    with pytest.raises(InputRejected):
        any_engine.open(b"\x80\x04\x95 not a template")


def test_priming_with_any_length_gives_no_error_and_no_output(
    any_engine: VoiceEngine, any_template: bytes, voices: MappingProxyType[str, Held]
) -> None:
    for length in (0, 100, 512, 5000):
        stream = any_engine.open(any_template)
        stream.prime(voices["a"].held_out[:length])
        assert stream.process(voices["a"].held_out[length : length + 1536]).pcm.shape == (1536,)


def test_enrolment_refuses_less_than_ten_seconds(any_engine: VoiceEngine, voices: MappingProxyType[str, Held]) -> None:
    with pytest.raises(EnrolmentRefused, match="at least 10 s"):
        any_engine.enrol(voices["a"].reference[: 9 * SAMPLE_RATE])
