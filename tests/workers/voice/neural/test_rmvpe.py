"""RMVPE's front end against librosa's, its padding rule, its decoding."""

from pathlib import Path

import numpy as np
import pytest

from tests.workers.voice.neural.standins import pitch_finder
from tests.workers.voice.test_f0 import harmonics
from workers.models.runtime import Runtime
from workers.voice.neural import rmvpe
from workers.voice.neural.pitch import Track
from workers.voice.neural.rmvpe import CENTS_BINS, Mel, Rmvpe, RmvpeStream, centred, decode, filter_bank, log_mel
from workers.voice.neural.windows import History, Sound, plan

REFERENCE = Path(__file__).parent / "mel_reference.npz"


def open_rmvpe() -> Rmvpe:
    return Rmvpe(Runtime("cpu").open(pitch_finder(), rmvpe.CONTRACT, label="rmvpe"))


def chirp() -> Sound:
    """Return the sound of the reference: 200 to 400 Hz in a second, with a tone at 3 kHz."""
    n = np.arange(16_000)
    rising = 0.3 * np.sin(2 * np.pi * (200 * n / 16_000 + 100 * (n / 16_000) ** 2))
    return np.asarray(rising + 0.05 * np.sin(2 * np.pi * 3000 * n / 16_000), np.float32)


def test_the_filter_bank_is_that_of_librosa() -> None:
    """`librosa.filters.mel(sr=16000, n_fft=1024, n_mels=128, fmin=30, fmax=8000, htk=True)`, 0.11.0, every 8th."""
    np.testing.assert_allclose(filter_bank().T[::8], np.load(REFERENCE)["bank"], atol=1e-7)


def test_the_front_end_is_that_of_librosa() -> None:
    """ln(max(mel @ |stft|, 1e-5)) of the chirp, reflect-padded; every tenth frame."""
    mel = log_mel(centred(chirp()))
    assert mel.shape == (128, 101)
    np.testing.assert_allclose(mel[:, ::10], np.load(REFERENCE)["log_mel"], atol=2e-3)


@pytest.mark.parametrize("frames", [1, 31, 32, 33, 101])
def test_any_number_of_frames_is_padded_to_a_multiple_of_32(frames: int) -> None:
    assert open_rmvpe()(np.zeros((128, frames), np.float32)).shape == (frames,)


def test_decoding_is_the_weighted_mean_around_the_largest_bin() -> None:
    salience = np.zeros((3, CENTS_BINS), np.float32)
    salience[0, 100:102] = 0.5, 0.5  # between two bins
    salience[1, 50] = 0.03  # not above the threshold
    salience[2, 359] = 0.9  # at the edge: bins beyond do not count
    cents = np.array([20 * 100.5, 20 * 359]) + 1997.3794084376191
    np.testing.assert_allclose(
        decode(salience), [10 * 2 ** (cents[0] / 1200), 0, 10 * 2 ** (cents[1] / 1200)], rtol=1e-6
    )


def test_a_far_second_peak_does_not_pull_the_pitch() -> None:
    salience = np.zeros((1, CENTS_BINS), np.float32)
    salience[0, 200], salience[0, 205] = 0.9, 0.8
    alone = salience.copy()
    alone[0, 205] = 0
    np.testing.assert_array_equal(decode(salience), decode(alone))


class Seen(Rmvpe):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        self.mels: list[Mel] = []

    def __call__(self, mel: Mel) -> Track:
        self.mels.append(mel)
        return np.zeros(mel.shape[1], np.float32)


def test_streamed_frames_are_those_of_the_whole_file() -> None:
    """All frames whose 1024 samples have arrived, whatever the chunks; and the network sees multiples of 32 only."""
    sound = np.random.default_rng(3).standard_normal(48_128).astype(np.float32) * 0.1
    whole = log_mel(centred(sound))
    seen, history = Seen(), History(40_000)
    stream = RmvpeStream(seen)
    for size in (1536, 3072, 2048, 5120, 512) * 3:
        history.push(sound[history.end : history.end + size])
        window = plan(history.end, size, context=6400, delay=32)
        assert stream.track(history, window).shape == (window.frames,)
        (mel,) = seen.mels[-1:]
        assert mel.shape[1] % 32 == 0
        last = window.first_frame + window.frames
        for frame in range(max(4, last - mel.shape[1]), (history.end - 512) // 160 + 1):
            if frame < last:
                np.testing.assert_allclose(mel[:, frame - last], whole[:, frame], atol=1e-3)


def test_the_standin_follows_a_tone() -> None:
    """What the end-to-end tests lean on: within two semitones of a steady tone, unvoiced in silence."""
    for pitch in (150.0, 220.0, 330.0):
        tone = np.asarray(np.sin(2 * np.pi * pitch * np.arange(16_000) / 16_000), np.float32) * np.float32(0.3)
        f0 = open_rmvpe()(log_mel(centred(tone)))
        assert np.abs(12 * np.log2(f0[5:-5] / pitch)).max() < 2
    assert not open_rmvpe()(log_mel(centred(np.zeros(16_000, np.float32)))).any()
    assert (open_rmvpe()(log_mel(centred(np.asarray(harmonics(np.full(16_000, 200.0)), np.float32))))[5:-5] > 0).all()
