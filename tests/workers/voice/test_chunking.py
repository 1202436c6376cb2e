"""The output depends on the input and its place in the stream, never on how it was cut."""

from types import MappingProxyType

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.workers.voice.speech import BLOCK, LADDER, Held, convert, results
from workers.voice.embedded import EmbeddedVoiceEngine
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.measure import click_ratio

CLIP = slice(0, 3 * SAMPLE_RATE // BLOCK * BLOCK)


@settings(max_examples=12)
@given(sizes=st.lists(st.sampled_from(LADDER), min_size=1, max_size=8))
def test_any_sequence_of_sizes_gives_the_same_samples(
    sizes: list[int],
    engine: EmbeddedVoiceEngine,
    voices: MappingProxyType[str, Held],
    templates: MappingProxyType[str, bytes],
    converted: MappingProxyType[str, Pcm],
) -> None:
    """Bit for bit, so a change of size can neither click nor drift."""
    output = convert(engine.open(templates["a"]), voices["b"].held_out[CLIP], sizes)
    np.testing.assert_array_equal(output, converted["ba"][CLIP])


def test_changes_of_size_do_not_click(
    engine: EmbeddedVoiceEngine, voices: MappingProxyType[str, Held], templates: MappingProxyType[str, bytes]
) -> None:
    found = results(engine.open(templates["b"]), voices["a"].held_out[: 6 * SAMPLE_RATE], LADDER)
    splices = np.cumsum([len(result.pcm) for result in found])[:-1]
    assert click_ratio(np.concatenate([result.pcm for result in found]), splices).max() <= 20


def test_a_primed_stream_continues_without_a_click(
    engine: EmbeddedVoiceEngine,
    voices: MappingProxyType[str, Held],
    templates: MappingProxyType[str, bytes],
    converted: MappingProxyType[str, Pcm],
) -> None:
    """A new worker that is given the last seconds goes on where the old one stopped, mid-word."""
    pcm, before = voices["a"].held_out, converted["ab"]
    for takeover in (5 * SAMPLE_RATE // BLOCK * BLOCK, 7 * SAMPLE_RATE // BLOCK * BLOCK):
        stream = engine.open(templates["b"])
        stream.prime(pcm[takeover - 4 * SAMPLE_RATE // BLOCK * BLOCK : takeover])
        after = stream.process(pcm[takeover : takeover + 3072]).pcm
        assert click_ratio(np.concatenate((before[:takeover], after)), [takeover]).max() <= 20
        old = before[takeover : takeover + 3072].astype(float)
        assert 0.5 < after.std() / old.std() < 2


def test_priming_with_the_whole_past_changes_nothing(
    engine: EmbeddedVoiceEngine,
    voices: MappingProxyType[str, Held],
    templates: MappingProxyType[str, bytes],
    converted: MappingProxyType[str, Pcm],
) -> None:
    """As long as the past fits the context, the takeover is bit-exact."""
    past = 4 * SAMPLE_RATE // BLOCK * BLOCK
    stream = engine.open(templates["b"])
    stream.prime(voices["a"].held_out[:past])
    output = stream.process(voices["a"].held_out[past : past + 5120]).pcm
    np.testing.assert_array_equal(output, converted["ab"][past : past + 5120])
