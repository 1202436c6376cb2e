"""What a detector's graph sees of a frame, as floats and as bytes."""

import cv2
import numpy as np
import pytest

from workers.video.engine import Frame
from workers.video.neural.letterbox import ByteLetterbox, FloatLetterbox
from workers.video.pixels import f32

SIDE = 640


def noise(*shape: int) -> Frame:
    return np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize(
    "shape", [(512, 512), (720, 1280), (1080, 1920), (3200, 1600), (640, 360), (97, 131), (1, 700), (700, 1), (1, 1)]
)
def test_the_graph_sees_the_frame_top_left_in_its_range_and_black_around_it(shape: tuple[int, int]) -> None:
    frame, planes, canvas = noise(*shape), np.empty((3, SIDE, SIDE), np.float32), np.empty((SIDE, SIDE, 3), np.uint8)
    floats, as_bytes = FloatLetterbox(planes), ByteLetterbox(canvas)
    for picture in (np.full((64, 48, 3), 255, np.uint8), frame):  # nothing is left of the frame before
        shrunk_by = floats.fill(picture)
        assert as_bytes.fill(picture) == shrunk_by
    rows, columns = max(int(shape[0] * shrunk_by + 0.5), 1), max(int(SIDE * shape[1] / max(shape)), 1)
    expected = np.zeros((SIDE, SIDE, 3), np.uint8)
    expected[:rows, :columns] = cv2.resize(frame, (columns, rows))
    np.testing.assert_array_equal(canvas, expected)
    wanted = (f32(expected[..., ::-1]).transpose(2, 0, 1) - np.float32(127.5)) / np.float32(128)
    np.testing.assert_array_equal(planes, wanted)


def test_the_frame_is_left_alone() -> None:
    frame = noise(SIDE, SIDE)
    before = frame.copy()
    FloatLetterbox(np.empty((3, SIDE, SIDE), np.float32)).fill(frame)
    ByteLetterbox(np.empty((SIDE, SIDE, 3), np.uint8)).fill(frame)
    np.testing.assert_array_equal(frame, before)
