"""What converted speech must be: the target's voice, free of the source's waveform, of clicks and of clipping."""

from types import MappingProxyType

import numpy as np
import pytest

from tests.workers.voice.speech import LADDER, Held
from workers.voice.engine import Pcm
from workers.voice.grid import LOOKAHEAD
from workers.voice.measure import SpeakerEncoder, click_ratio, leaked_windows, similarity

CROSS = ["ab", "ba"]
ALL = ["ab", "ba", "aa", "bb"]


@pytest.mark.parametrize("pair", CROSS)
def test_speech_moves_towards_the_target(
    voices: MappingProxyType[str, Held], converted: MappingProxyType[str, Pcm], encoder: SpeakerEncoder, pair: str
) -> None:
    """Similarity to held-out speech of the target rises by .10 at the least, from a stream that starts cold."""
    source, target = encoder(voices[pair[0]].held_out), encoder(voices[pair[1]].held_out)
    output = encoder(converted[pair])
    assert similarity(output, target) - similarity(source, target) >= 0.10
    assert similarity(output, target) > similarity(output, source)


@pytest.mark.parametrize("pair", ALL)
def test_the_original_does_not_leak(
    voices: MappingProxyType[str, Held], converted: MappingProxyType[str, Pcm], pair: str
) -> None:
    """Not even into the speaker's own voice: the waveform is made anew."""
    assert leaked_windows(voices[pair[0]].held_out, converted[pair]) == []


@pytest.mark.parametrize("pair", ALL)
@pytest.mark.parametrize("size", LADDER)
def test_no_splice_clicks(converted: MappingProxyType[str, Pcm], pair: str, size: int) -> None:
    """The output is the same for every chunk size (see test_chunking), so every size's splices are looked for in it."""
    output = converted[pair]
    assert click_ratio(output, range(size, len(output) - size, size)).max() <= 20


@pytest.mark.parametrize("pair", ALL)
def test_loudness_follows_the_input(
    voices: MappingProxyType[str, Held], converted: MappingProxyType[str, Pcm], pair: str
) -> None:
    original, output = voices[pair[0]].held_out.astype(float), converted[pair].astype(float)
    assert 0.5 < output.std() / original[: len(output)].std() < 2
    window = 8000
    shifted = output[LOOKAHEAD:]
    count = min(len(shifted), len(original)) // window
    levels = [
        np.log(np.maximum(sound[: count * window].reshape(count, window).std(axis=1), 30))
        for sound in (original, shifted)
    ]
    assert np.corrcoef(levels)[0, 1] > 0.9


@pytest.mark.parametrize("pair", ALL)
def test_output_never_clips(converted: MappingProxyType[str, Pcm], pair: str) -> None:
    assert np.abs(converted[pair].astype(int)).max() < 32_700
