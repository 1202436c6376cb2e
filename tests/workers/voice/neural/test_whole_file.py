"""What the synthesiser is fed in a stream is what a conversion of the whole file would feed it."""

import itertools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.workers.voice.neural.standins import encoder, pitch_finder, voice
from tests.workers.voice.speech import LADDER, Held
from workers.models.contract import Tensor
from workers.models.runtime import Network, Runtime
from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural import content, rmvpe, synthesiser
from workers.voice.neural.chain import Target, VoiceChain
from workers.voice.neural.content import ContentEncoder, closed, stretch
from workers.voice.neural.noise import FrameNoise
from workers.voice.neural.pitch import coarse
from workers.voice.neural.resample import DELAY
from workers.voice.neural.rmvpe import Rmvpe, RmvpeStream, centred, log_mel
from workers.voice.neural.settings import NeuralVoiceSettings
from workers.voice.neural.stream import NeuralStream
from workers.voice.neural.synthesiser import Synthesiser
from workers.voice.neural.windows import plan


class Recording:
    """Passes on to a network, and keeps what it was fed."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self.fed: list[Mapping[str, NDArray[Any]]] = []

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return self._net.inputs

    @property
    def metadata(self) -> Mapping[str, str]:
        return self._net.metadata

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        self.fed.append({name: np.array(value) for name, value in feeds.items()})
        return self._net.run(feeds)


@pytest.mark.parametrize("sizes", [(3072,), (512,), LADDER])
def test_content_pitch_and_noise_are_those_of_the_whole_file(
    sizes: tuple[int, ...], voices: MappingProxyType[str, Held]
) -> None:
    """Frame by frame on the absolute grid, wherever a frame's samples have all arrived."""
    runtime = Runtime("cpu")
    encode = ContentEncoder(runtime.open(encoder(), content.CONTRACT, label="encoder"))
    tracker = Rmvpe(runtime.open(pitch_finder(), rmvpe.CONTRACT, label="rmvpe"))
    net = Recording(runtime.open(voice("rvc-project"), synthesiser.CONTRACT, label="voice"))
    spoken = Synthesiser(net, label="voice")
    chain = VoiceChain(encode, lambda: RmvpeStream(tracker), spoken, NeuralVoiceSettings(match_pitch=False))
    pcm = voices["a"].held_out[: 2 * SAMPLE_RATE // 2560 * 2560]
    sound = np.asarray(pcm, np.float32) / np.float32(32768)

    features = stretch(closed(encode(sound)), len(sound))
    f0 = tracker(log_mel(centred(sound)))
    steps = coarse(f0)
    noise = FrameNoise()(0, len(features))

    stream, end, compared = NeuralStream(chain, Target(5.0, None)), 0, 0
    for size in itertools.cycle(sizes):
        if end + size > len(pcm):
            break
        net.fed.clear()
        stream.process(pcm[end : end + size])
        end += size
        if not net.fed:  # gated
            continue
        (fed,) = net.fed
        window = plan(end, size, context=chain.context, delay=DELAY)
        assert fed["pitchf"].shape == (1, window.frames)
        first, last = max(4, window.first_frame), min((end - 512) // 160, window.first_frame + window.frames - 2)
        here, there = slice(first - window.first_frame, last - window.first_frame), slice(first, last)
        np.testing.assert_allclose(fed["phone"][0, here], features[there], atol=1e-5)
        np.testing.assert_allclose(fed["pitchf"][0, here], f0[there], rtol=1e-3)
        assert np.abs(fed["pitch"][0, here] - steps[there]).max(initial=0) <= 1
        np.testing.assert_array_equal(fed["rnd"][0][:, here], noise[:, there])
        compared += last - first
    assert compared > 200
