"""The pitch tracker against tones of known pitch."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.voice.engine import SAMPLE_RATE
from workers.voice.f0 import PitchTracker
from workers.voice.grid import BLOCK, FRAMES, HOP, LOOKAHEAD, Samples


def harmonics(track: Samples, count: int = 12) -> Samples:
    """Return a sound of falling harmonics whose pitch is `track` (N,) Hz."""
    phase = 2 * np.pi * np.cumsum(track) / SAMPLE_RATE
    return np.asarray(0.1 * sum(np.cos(k * phase) / k for k in range(1, count)))


def follow(sound: Samples) -> tuple[Samples, NDArray[np.intp]]:
    """Return tracked F0 and the sample each frame is centred on."""
    tracker = PitchTracker()
    f0: Samples = np.concatenate([tracker.push(block)[0] for block in sound.reshape(-1, BLOCK)])
    return f0, HOP * (np.arange(len(f0)) + 1) - LOOKAHEAD


@settings(max_examples=20)
@given(pitch=st.floats(65, 450))
@example(pitch=420.0)  # its period falls between two lags: once, twice the period won
def test_a_steady_tone_is_found_within_ten_cents(pitch: float) -> None:
    f0, centres = follow(harmonics(np.full(20 * BLOCK, pitch)))
    steady = f0[centres > 3 * BLOCK]
    assert np.abs(1200 * np.log2(steady / pitch)).max() < 10


def test_a_glide_is_followed_without_lag() -> None:
    track = np.geomspace(90, 260, 40 * BLOCK)
    f0, centres = follow(harmonics(track))
    inside = centres > 3 * BLOCK
    assert np.abs(1200 * np.log2(f0[inside] / track[centres[inside]])).max() < 35


@pytest.mark.parametrize("sound", [np.zeros(20 * BLOCK), np.random.default_rng(0).standard_normal(20 * BLOCK) * 0.1])
def test_silence_and_noise_are_unvoiced(sound: Samples) -> None:
    f0, _ = follow(sound)
    assert np.mean(f0 > 0) < 0.1


def test_a_skipped_stretch_is_forgotten() -> None:
    tracker = PitchTracker()
    tone = harmonics(np.full(8 * BLOCK, 120.0)).reshape(-1, BLOCK)
    for block in tone:
        tracker.push(block)
    for _ in range(4):
        tracker.skip(np.zeros(BLOCK))
    f0, strength = tracker.push(np.zeros(BLOCK))
    assert f0.shape == strength.shape == (FRAMES,)
    assert not f0.any()
