"""Detection on real pictures, in every shape a frame may have."""

import cv2
import numpy as np
import pytest

from workers.video.detector import SecondOpinionDetector, letterbox
from workers.video.engine import Frame
from workers.video.pixels import f32


@pytest.fixture(scope="module")
def detector() -> SecondOpinionDetector:
    return SecondOpinionDetector()


@pytest.mark.parametrize(("height", "width"), [(512, 512), (384, 384), (256, 256), (1080, 1920), (1920, 1080)])
def test_a_face_is_found_where_it_is(
    detector: SecondOpinionDetector, clip: list[Frame], height: int, width: int
) -> None:
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    frame = np.zeros((height, width, 3), np.uint8)
    frame[top : top + side, left : left + side] = cv2.resize(clip[0], (side, side))
    (face,) = detector.detect(frame)
    reference = detector.detect(clip[0])[0]
    expected = reference.box * side / 512 + f32([left, top, left, top])
    np.testing.assert_allclose(face.box, expected, atol=0.05 * side)
    assert face.score > 0.7


def test_two_faces_largest_first(detector: SecondOpinionDetector, couple: list[Frame]) -> None:
    man, woman = detector.detect(couple[0])
    assert man.size > woman.size
    assert man.box[2] < 512 < woman.box[0]


def test_nobody_in_an_empty_picture(detector: SecondOpinionDetector, empty: Frame) -> None:
    assert detector.detect(empty) == []
    assert detector.detect(np.zeros((512, 512, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 500), (500, 3), (17, 16)])
def test_odd_shapes_are_looked_at_without_complaint(detector: SecondOpinionDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


@pytest.mark.parametrize("shape", [(512, 512), (1080, 1920), (333, 111), (90, 160)])
def test_a_letterbox_keeps_places(shape: tuple[int, int]) -> None:
    height, width = shape
    frame = np.zeros((height, width, 3), np.uint8)
    y, x = height // 3, width // 4
    radius = max(height, width) // 20
    cv2.circle(frame, (x, y), radius, (255, 255, 255), -1)
    square, scale, offset = letterbox(frame, 192)
    rows, columns = np.nonzero(square[..., 0] > 127)
    back = (np.array([columns.mean(), rows.mean()]) - offset + 0.5) / scale - 0.5
    np.testing.assert_allclose(back, [x, y], atol=0.6 / scale + 0.5)
