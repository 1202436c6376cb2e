"""The detector around its network: what goes in, what comes out, and that real faces are found by the stand-in."""

import numpy as np
import onnx
import pytest
import structlog

from schemas.errors import ModelRefused
from tests.workers.video.neural import standins
from workers.models.byte_input import take_bytes
from workers.models.runtime import Runtime
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.faces import overlap
from workers.video.neural import contracts
from workers.video.neural.letterbox import MEAN, STD, FloatLetterbox
from workers.video.neural.scrfd import Scrfd, open_detector
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


def in_another_order() -> bytes:
    """Return the detector with strides 32, 16, 8: the widths are as they should be, the rows are not."""
    model = onnx.load_from_string(standins.detector_graph())
    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(outputs[at] for first in (0, 3, 6) for at in (first + 2, first + 1, first))
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_detector_with_its_strides_in_another_order_is_refused(*, as_bytes: bool) -> None:
    """Typed, so that `auto` runs the embedded engine: read as they are, its cells lie beyond the picture."""
    rows = "12800, 3200, 800, 12800, 3200, 800, 12800, 3200, 800 rows are expected .*8, 16, 32.*, 800, 3200, 12800, .*"
    with pytest.raises(ModelRefused, match=rows):
        open_detector(Runtime("cpu"), in_another_order(), label="stand-in", as_bytes=as_bytes)
    edited = take_bytes(in_another_order(), mean=MEAN, std=STD, label="stand-in")
    network = Runtime("cpu").open(edited, contracts.DETECTOR_OF_BYTES, label="stand-in")
    with pytest.raises(ModelRefused, match=rows):
        Scrfd(network)


def test_a_graph_that_takes_bytes_finds_the_same(
    scrfd: Scrfd, clip: list[Frame], couple: list[Frame], portrait: Frame
) -> None:
    with structlog.testing.capture_logs() as logs:
        edited = open_detector(Runtime("cpu"), standins.detector_graph(), label="stand-in", as_bytes=True)
    assert logs == []
    wide = np.ascontiguousarray(clip[0][80:400])
    for frame in (clip[0], clip[70], wide, couple[0], portrait):
        expected, found = scrfd.detect(frame), edited.detect(frame)
        assert len(found) == len(expected) > 0
        for one, other in zip(found, expected, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            np.testing.assert_allclose(one.box, other.box, atol=0.01)
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=0.01)


def test_a_graph_that_cannot_take_bytes_runs_as_it_came_and_that_is_said(clip: list[Frame], scrfd: Scrfd) -> None:
    model = onnx.load_from_string(standins.detector_graph())
    model.graph.node[0].name = "in the way__bytes"
    with structlog.testing.capture_logs() as logs:
        detector = open_detector(Runtime("cpu"), model.SerializeToString(), label="stand-in", as_bytes=True)
    (said,) = logs
    assert (said["event"], said["log_level"]) == ("frames_are_converted_on_the_host", "warning")
    assert "stand-in cannot be given bytes" in said["reason"]
    np.testing.assert_array_equal(detector.detect(clip[0])[0].box, scrfd.detect(clip[0])[0].box)


def test_an_edited_graph_that_says_something_else_is_not_used(
    clip: list[Frame], scrfd: Scrfd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a device would that casts bytes wrongly."""
    monkeypatch.setattr("workers.video.neural.scrfd.MEAN", 60.0)
    with structlog.testing.capture_logs() as logs:
        detector = open_detector(Runtime("cpu"), standins.detector_graph(), label="stand-in", as_bytes=True)
    assert "differs from the reference" in logs[0]["reason"]
    np.testing.assert_array_equal(detector.detect(clip[0])[0].box, scrfd.detect(clip[0])[0].box)


def test_on_a_cpu_the_host_converts() -> None:
    """It needs a fraction of what the added nodes take there."""
    detector = open_detector(Runtime("cpu"), standins.detector_graph(), label="stand-in")
    assert isinstance(detector._letterbox, FloatLetterbox)
