"""Crops and points stay together."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.video import geometry
from workers.video.faces import Detection, bounds, overlap
from workers.video.geometry import Square
from workers.video.pixels import f32

LEVEL = st.floats(-3, 3)


@given(st.floats(-100, 900), st.floats(-100, 900), st.floats(10, 900), LEVEL)
def test_points_survive_the_way_into_a_crop_and_back(x: float, y: float, size: float, angle: float) -> None:
    to_crop = Square((x, y), size, angle).to_crop(192)
    points = np.array([[x, y], [x + 10, y - 5]], np.float32)
    inside = geometry.apply(to_crop, points)
    np.testing.assert_allclose(inside[0], [96, 96], atol=1e-2)
    np.testing.assert_allclose(geometry.apply(geometry.inverse(to_crop), inside), points, atol=1e-2)


@pytest.mark.parametrize("size", [150.0, 300.0, 700.0, 1600.0])
def test_a_crop_shows_a_mark_where_its_point_lands(size: float) -> None:
    """Also when the frame is halved first: the halving must not shift the picture."""
    frame = np.zeros((1080, 1920, 3), np.uint8)
    mark = np.array([[921, 521]], np.float32)
    cv2.circle(frame, (921, 521), int(size / 20), (255, 255, 255), -1)
    to_crop = Square((900.0, 500.0), size, 0.3).to_crop(192)
    seen = geometry.crop(frame, to_crop, 192)[..., 0].astype(np.float64)
    rows, columns = np.mgrid[0:192, 0:192]
    centre = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
    np.testing.assert_allclose(centre, geometry.apply(to_crop, mark)[0], atol=0.3)


def test_the_square_of_a_detection_lies_level_with_its_eyes() -> None:
    keypoints = np.zeros((6, 2), np.float32)
    keypoints[1] = [10, 10]
    square = geometry.square_of_detection(Detection(0.9, f32([0, 0, 40, 20]), keypoints), 1.5)
    assert (*square.centre, square.size, square.angle) == pytest.approx((20, 10, 60, np.pi / 4))


def test_overlap_is_intersection_over_union() -> None:
    box = f32([0, 0, 10, 10])
    others = f32([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]])
    np.testing.assert_allclose(overlap(box, others), [1, 1 / 3, 0, 0], atol=1e-6)


def test_bounds_hold_every_point() -> None:
    np.testing.assert_array_equal(bounds(f32([[1, 9, 0], [4, 2, 0]])), [1, 2, 4, 9])
