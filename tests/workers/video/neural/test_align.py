"""The five-point similarity: exact where there is one, least squares elsewhere, None where there is nothing to fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.video.neural import align
from workers.video.pixels import Affine, Float, f32


def applied(affine: Affine, points: Float) -> Float:
    return f32(points @ affine[:, :2].T + affine[:, 2])


@given(
    st.floats(-np.pi, np.pi),
    st.floats(0.05, 20),
    st.floats(-2000, 2000),
    st.floats(-2000, 2000),
    st.sampled_from([112, 128]),
)
def test_it_recovers_a_similarity(turn: float, scale: float, x: float, y: float, side: int) -> None:
    target = align.template(side)
    spin = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = f32(target @ spin.T + np.array([x, y]))
    affine = align.similarity(points, target)
    assert affine is not None
    assert align.scale(affine) == pytest.approx(1 / scale, rel=1e-3)
    np.testing.assert_allclose(applied(affine, points), target, atol=0.05)
    np.testing.assert_allclose(applied(align.inverse(affine), target), points, atol=0.05 * max(scale, 1))


def test_no_other_similarity_fits_noisy_points_better() -> None:
    rng = np.random.default_rng(0)
    target = align.template(112)
    points = f32(target * 1.7 + rng.normal(0, 4, target.shape))
    best = align.similarity(points, target)
    assert best is not None
    error = np.square(applied(best, points) - target).sum()
    for _ in range(200):
        other = best + rng.normal(0, 1e-3, (2, 3)) * [1, 1, 100]
        other[1, :2] = [-other[0, 1], other[0, 0]]
        assert np.square(applied(other, points) - target).sum() >= error - 1e-3


def test_mirrored_points_are_not_mirrored_back() -> None:
    target = align.template(112)
    affine = align.similarity(f32(target * [-1, 1]), target)
    assert affine is not None
    assert np.linalg.det(affine[:, :2]) > 0


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), 77.0), np.full((5, 2), np.nan)])
def test_points_without_extent_have_no_similarity(points: Float) -> None:
    assert align.similarity(f32(points), align.template(112)) is None


def test_one_affine_after_another() -> None:
    points = align.template(128)
    one, other = np.array([[2.0, 1, 3], [-1, 2, 4]]), np.array([[0.5, 0, -7], [0, 0.5, 9]])
    expected = applied(other, applied(one, points))
    np.testing.assert_allclose(applied(align.after(other, one), points), expected, rtol=1e-5)


def test_other_crop_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="112 or 128"):
        align.template(100)
