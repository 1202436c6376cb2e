"""A voice that says its content and nothing else: so a stream must sound as the whole file does, sample by sample.

Its 480 samples of a frame are channels of the frame's features. A real voice starts its sine anew in every window, so
that only what it is fed can be compared (`test_whole_file`); here what becomes of its sound can be, too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workers.voice.neural.standins import encoder
from tests.workers.voice.speech import LADDER, convert
from tests.workers.voice.test_f0 import harmonics
from workers.models.contract import Tensor
from workers.models.runtime import Runtime
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.neural import content
from workers.voice.neural.chain import Target, VoiceChain
from workers.voice.neural.content import CHANNELS, ContentEncoder, Features, closed, stretch
from workers.voice.neural.f0 import TrackerStream
from workers.voice.neural.formant import synthesise
from workers.voice.neural.level import LevelMatch, to_pcm
from workers.voice.neural.resample import DELAY, Decimator
from workers.voice.neural.retrieval import ExactIndex, FeatureIndex, retrieve
from workers.voice.neural.settings import NeuralVoiceSettings
from workers.voice.neural.stream import NeuralStream
from workers.voice.neural.synthesiser import Synthesiser
from workers.voice.neural.windows import LOOKAHEAD, Sound, plan

RATE, HOP = 48_000, 480
ROWS = np.random.default_rng(11).standard_normal((40, CHANNELS)).astype(np.float32) * np.float32(0.2)


class ContentVoice:
    """The network; `fed` keeps the features of every run."""

    inputs = tuple(
        Tensor(name, kind, shape)
        for name, kind, shape in (
            ("feats", "float32", (1, None, CHANNELS)),
            ("p_len", "int64", (1,)),
            ("pitch", "int64", (1, None)),
            ("pitchf", "float32", (1, None)),
            ("sid", "int64", (1,)),
        )
    )
    metadata: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        self.fed: list[Features] = []

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.fed.append(feeds["feats"][0].copy())
        return [0.3 * feeds["feats"][0, :, :HOP].ravel()]


def speech() -> Pcm:
    """Return 3 s of a glide without a pause, now loud, now soft."""
    at = np.arange(3 * SAMPLE_RATE // 2560 * 2560) / SAMPLE_RATE
    swell = 10 ** (0.2 * np.sin(2 * np.pi * 0.9 * at) - 0.2)
    return np.asarray(np.rint(harmonics(140 + 30 * at) * swell * 32767), np.int16)


SPOKEN = speech()
ENCODE = ContentEncoder(Runtime("cpu").open(encoder(), content.CONTRACT, label="encoder"))


def stream(net: ContentVoice, settings: NeuralVoiceSettings, index: FeatureIndex | None = None) -> NeuralStream:
    chain = VoiceChain(ENCODE, TrackerStream, Synthesiser(net, label="content"), settings)
    return NeuralStream(chain, Target(5.0, index))


def whole_file(settings: NeuralVoiceSettings) -> Pcm:
    """Return what the whole of `SPOKEN` becomes at once: one window, no joins, no delay."""
    sound = np.asarray(SPOKEN, np.float32) / np.float32(32768)
    features = stretch(closed(ENCODE(sound)), len(sound))
    made = Synthesiser(ContentVoice(), label="content")(features, np.zeros(len(features), np.float32), 0)
    output: Sound = np.append(Decimator(RATE).push(made)[DELAY:], np.zeros(DELAY, np.float32))
    return to_pcm(LevelMatch().push(sound, output) if settings.match_level else output)


@pytest.mark.parametrize("match_level", [False, True])
@pytest.mark.parametrize(("overlap_ms", "unlike"), [(0, 0.0), (20, 0.0), (30, 0.05)])
@pytest.mark.parametrize("sizes", [(512,), (3072,), LADDER])
def test_joined_resampled_and_levelled_it_is_the_whole_file(
    sizes: tuple[int, ...], overlap_ms: int, unlike: float, *, match_level: bool
) -> None:
    """To two steps of 16 bits, `LOOKAHEAD` later, however the chunks are cut.

    The default fade ends where some windows have no features of their own left: its last milliseconds may differ.
    """
    settings = NeuralVoiceSettings(match_pitch=False, match_level=match_level, overlap_ms=overlap_ms)
    output = convert(stream(ContentVoice(), settings), SPOKEN, sizes)
    heard, expected = (each.astype(int)[1024:] for each in (output[LOOKAHEAD:], whole_file(settings)[:-LOOKAHEAD]))
    assert expected.std() > 300
    assert np.mean(np.abs(heard - expected) > 2) <= unlike


@pytest.mark.parametrize("semitones", [-4.0, 3.0])
def test_formants_move_in_a_window_as_in_the_whole_file(semitones: float) -> None:
    """A frame's sound stays in its place, to two frames, wherever the window starts and however long it is."""
    frames = 400
    rising = np.linspace(-1, 1, frames, dtype=np.float32)  # a frame's number can be read from its sound
    features = np.repeat(rising[:, None], CHANNELS, axis=1)
    spoken, f0 = Synthesiser(ContentVoice(), label="content"), np.zeros(frames, np.float32)
    whole = synthesise(spoken, features, f0, 0, semitones)
    for end, size in zip(np.cumsum(LADDER * 3), LADDER * 3, strict=True):
        window = plan(int(end) + 8192, size, context=6400, delay=DELAY)
        here = slice(window.first_frame, window.first_frame + window.frames)
        part = synthesise(spoken, features[here], f0[here], window.first_frame, semitones)
        assert len(part) == window.frames * HOP
        there = whole[window.first_frame * HOP :][: len(part)]
        inside = slice(0, -4 * HOP)  # the last frame is held where the whole file goes on
        np.testing.assert_allclose(part[inside], there[inside], atol=2.1 * 0.3 * 2 / frames)


@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_retrieval_is_what_the_synthesiser_is_fed(rate: float) -> None:
    """Every window's features are `retrieve` of the encoder's: nothing else is made of what was said."""
    index, net = ExactIndex(ROWS), ContentVoice()
    chosen = NeuralVoiceSettings(match_pitch=False, index_rate=rate)
    indexed, compared = stream(net, chosen, index), 0
    sound = np.asarray(SPOKEN, np.float32) / np.float32(32768)
    for end in range(3072, len(SPOKEN) + 1, 3072):
        net.fed.clear()
        indexed.process(SPOKEN[end - 3072 : end])
        window = plan(end, 3072, context=6400, delay=DELAY)
        if window.start < 0 or not net.fed:
            continue
        heard = closed(ENCODE(sound[window.start : window.start + window.samples]))
        expected = stretch(retrieve(heard, index, rate), window.samples)
        np.testing.assert_allclose(net.fed[0], expected, atol=1e-5)
        assert np.abs(expected - stretch(heard, window.samples)).max() > 0.1
        compared += 1
    assert compared > 8


def test_retrieval_is_heard() -> None:
    """At a rate of 0 the index changes nothing; the higher the rate, the further the sound is from that."""
    plain = convert(stream(ContentVoice(), NeuralVoiceSettings(match_pitch=False)), SPOKEN).astype(float)
    settings = [NeuralVoiceSettings(match_pitch=False, index_rate=rate) for rate in (0.0, 0.5, 1.0)]
    none, half, all_of_it = (
        np.abs(convert(stream(ContentVoice(), each, ExactIndex(ROWS)), SPOKEN) - plain).mean() for each in settings
    )
    assert none == 0
    assert 100 < half < all_of_it
