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


@given(st.floats(-300, 800), st.floats(-300, 800), st.floats(4, 3000), LEVEL)
def test_a_crop_of_the_part_it_needs_is_a_crop_of_the_whole(x: float, y: float, size: float, angle: float) -> None:
    """Also where it reaches beyond the frame, whose edge then repeats, and lies wholly outside."""
    rows, columns = np.mgrid[0:512, 0:512]
    frame = np.stack([rows / 2, columns / 2, (rows + columns) / 4], axis=2).astype(np.uint8)
    to_crop = Square((x, y), size, angle).to_crop(192)
    whole = cv2.warpAffine(frame, to_crop, (192, 192), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = geometry.crop(frame, to_crop, 192)
    tolerance = 3 + size / 192  # levels: a pixel that stands for many is their mean
    assert np.abs(seen.astype(int) - whole).max() <= tolerance


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (17, 16)])
@pytest.mark.parametrize("size", [1.0, 40.0, 5000.0])
def test_a_crop_of_any_frame_has_its_size(shape: tuple[int, int], size: float) -> None:
    frame = np.full((*shape, 3), 77, np.uint8)
    for centre in ((0.0, 0.0), (9.0, 9.0), (-4000.0, 4000.0)):
        seen = geometry.crop(frame, Square(centre, size, 0.4).to_crop(192), 192)
        np.testing.assert_array_equal(seen, np.full((192, 192, 3), 77))


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
