"""Covered regions go where their picture goes."""

import numpy as np
import pytest

from workers.video.engine import Frame
from workers.video.motion import RegionFollower
from workers.video.pixels import f32

BOX = f32([170, 130, 350, 350])


@pytest.mark.parametrize("step", [(0, 0), (9, 0), (-7, 5), (0, -12), (20, 20)])
def test_a_region_moves_with_the_picture(clip: list[Frame], step: tuple[int, int]) -> None:
    follower = RegionFollower(clip[0], BOX)
    for i in range(1, 5):
        moved = np.roll(clip[0], (step[1] * i, step[0] * i), axis=(0, 1))
        np.testing.assert_allclose(follower.follow(moved), BOX + np.tile(f32(step) * i, 2), atol=8)


def test_a_region_nothing_is_recognised_in_stays(clip: list[Frame], empty: Frame) -> None:
    follower = RegionFollower(clip[0], BOX)
    np.testing.assert_array_equal(follower.follow(np.zeros_like(empty)), BOX)
    np.testing.assert_array_equal(follower.follow(np.zeros_like(empty)), BOX)


def test_a_region_at_the_edge_is_followed_without_complaint(clip: list[Frame]) -> None:
    follower = RegionFollower(clip[0], f32([-40, -40, 60, 60]))
    assert np.isfinite(follower.follow(clip[1])).all()
