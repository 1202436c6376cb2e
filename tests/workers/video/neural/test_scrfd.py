"""The detector around its network: what goes in, what comes out, and that real faces are found by the stand-in."""

import cv2
import numpy as np
import pytest

from tests.workers.video.neural import standins
from workers.models.runtime import Runtime
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.faces import overlap
from workers.video.neural import contracts
from workers.video.neural.scrfd import Scrfd
from workers.video.pixels import Float, f32


@pytest.fixture(scope="module")
def scrfd() -> Scrfd:
    return Scrfd(Runtime("cpu").open(standins.detector_graph(), contracts.DETECTOR, label="stand-in"))


def answers(*faces: tuple[int, int, float]) -> list[Float]:
    """Return nine outputs that say nothing but `faces`: (level, anchor, score), each a box of two strides."""
    sizes = [(contracts.DETECTOR_SIDE // stride) ** 2 * contracts.ANCHORS for stride in contracts.STRIDES]
    outputs = [np.zeros((size, values), np.float32) for values in (1, 4, 10) for size in sizes]
    for level, anchor, score in faces:
        outputs[level][anchor] = score
        outputs[level + 3][anchor] = [1, 1, 1, 1]
        outputs[level + 6][anchor] = np.arange(10) / 10
    return outputs


@pytest.mark.parametrize(
    "shape", [(512, 512), (720, 1280), (1080, 1920), (3200, 1600), (640, 360), (97, 131), (1, 700), (700, 1), (1, 1)]
)
def test_the_graph_sees_the_frame_top_left_in_its_range_and_black_around_it(
    scrfd: Scrfd, shape: tuple[int, int]
) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for picture in (np.full((64, 48, 3), 255, np.uint8), frame):  # nothing is left of the frame before
        shrunk_by = scrfd.prepare(picture)
    rows, columns = max(int(shape[0] * shrunk_by + 0.5), 1), max(int(640 * shape[1] / max(shape)), 1)
    expected = np.zeros((640, 640, 3), np.uint8)
    expected[:rows, :columns] = cv2.resize(frame, (columns, rows))
    wanted = (f32(expected[..., ::-1]).transpose(2, 0, 1) - np.float32(127.5)) / np.float32(128)
    np.testing.assert_array_equal(scrfd._planes, wanted)


def test_preparing_leaves_the_frame_alone(scrfd: Scrfd) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (640, 640, 3), np.uint8)
    before = frame.copy()
    scrfd.prepare(frame)
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(("level", "stride"), [(0, 8), (1, 16), (2, 32)])
def test_boxes_and_keypoints_are_measured_from_their_cell(scrfd: Scrfd, level: int, stride: int) -> None:
    cells = 640 // stride
    row, column = 5, 7
    (face,) = scrfd.decode(answers((level, (row * cells + column) * 2 + 1, 0.75)), 0.5)
    x, y = column * stride, row * stride
    assert face.score == 0.75
    np.testing.assert_allclose(face.box, f32([x - stride, y - stride, x + stride, y + stride]) / 0.5)
    offsets = np.arange(10).reshape(5, 2) / 10 * stride
    np.testing.assert_allclose(face.keypoints, (f32([x, y]) + offsets) / 0.5, rtol=1e-6)


def test_of_several_hits_on_a_face_the_best_remains(scrfd: Scrfd) -> None:
    faces = scrfd.decode(answers((1, 3000, 0.7), (1, 3001, 0.9), (0, 900, 0.6), (2, 100, 0.49)), 1.0)
    assert [round(face.score, 2) for face in faces] == [0.9, 0.6]


def test_no_hit_no_face(scrfd: Scrfd) -> None:
    assert scrfd.decode(answers(), 1.0) == []


def test_a_graph_that_sees_faces_everywhere_is_survived(scrfd: Scrfd) -> None:
    everywhere = [np.ones_like(output) for output in answers()]
    assert len(scrfd.decode(everywhere, 1.0)) <= 512


def test_the_stand_in_finds_the_faces_that_the_vendored_detector_finds(
    scrfd: Scrfd, clip: list[Frame], couple: list[Frame], portrait: Frame
) -> None:
    vendored = SecondOpinionDetector()
    for frame in (clip[0], clip[70], couple[0], portrait):
        expected, found = vendored.detect(frame), scrfd.detect(frame)
        assert len(found) == len(expected)
        for face in found:
            ious = overlap(face.box, np.stack([other.box for other in expected]))
            twin = expected[int(ious.argmax())]
            assert ious.max() > 0.6
            eyes = np.linalg.norm(twin.keypoints[1] - twin.keypoints[0])
            assert np.linalg.norm(face.keypoints[:3] - twin.keypoints[:3], axis=1).max() < 0.2 * eyes


def test_a_side_that_strides_do_not_divide_is_refused() -> None:
    network = Runtime("cpu").open(standins.detector_graph(), contracts.DETECTOR, label="stand-in")
    with pytest.raises(ValueError, match="multiples of 32"):
        Scrfd(network, 600)
