"""One-Euro smoothing: quiet when still, prompt when moving."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from workers.video.pixels import f32
from workers.video.smoothing import LandmarkSmoother

FACE, SECONDS = 160.0, 1 / 30
START = np.random.default_rng(0).uniform(0, 500, (478, 3)).astype(np.float32)


def test_the_first_landmarks_pass_as_they_are() -> None:
    np.testing.assert_array_equal(LandmarkSmoother().step(START, SECONDS, FACE), START)


def test_trembling_is_quietened() -> None:
    smoother, noise = LandmarkSmoother(), np.random.default_rng(1)
    shown = [smoother.step(f32(START + noise.normal(0, 0.5, START.shape)), SECONDS, FACE) for _ in range(60)]
    assert np.std(shown[20:], axis=0).mean() < 0.3


def test_a_moving_face_is_followed_closely() -> None:
    """At two face sizes a second the lag stays within a hundredth of the face."""
    smoother = LandmarkSmoother()
    for i in range(30):
        true = f32(START + i * 2 * FACE * SECONDS)
        shown = smoother.step(true, SECONDS, FACE)
    assert np.abs(shown - true)[:, :2].max() < 0.015 * FACE


@given(st.floats(1 / 240, 0.5), st.floats(8, 1000))
def test_a_step_ends_between_old_and_new(seconds: float, face: float) -> None:
    smoother = LandmarkSmoother()
    smoother.step(START, seconds, face)
    shown = smoother.step(f32(START + 10), seconds, face)
    assert (shown >= START - 1e-3).all()
    assert (shown <= START + 10 + 1e-3).all()
