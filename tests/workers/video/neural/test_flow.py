"""Keypoints between detections: they go where the face goes, and are given up where it cannot be told."""

import cv2
import numpy as np
import pytest

from tests.workers.video.scenes import FRAME_US
from workers.video.cuts import SceneCuts
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.faces import Detection
from workers.video.neural.flow import FlowModel, FlowTracker
from workers.video.pixels import Affine, f32

SECONDS = FRAME_US / 1e6


def five(face: Detection) -> Detection:
    """Return a detection with SCRFD's keypoints."""
    right, left, nose, mouth = face.keypoints[:4]
    half = 0.41 * (left - right)
    return Detection(face.score, face.box, f32([right, left, nose, mouth - half, mouth + half]))


@pytest.fixture(scope="module")
def face(clip: list[Frame]) -> Detection:
    return five(SecondOpinionDetector().detect(clip[0])[0])


def moved(frame: Frame, affine: Affine) -> Frame:
    size = (frame.shape[1], frame.shape[0])
    return np.asarray(cv2.warpAffine(frame, affine, size, borderMode=cv2.BORDER_REFLECT), np.uint8)


@pytest.mark.parametrize(
    ("x", "y", "degrees", "scale"), [(12, 0, 0, 1), (-9, 14, 0, 1), (0, 0, 6, 1), (0, 0, 0, 1.06), (8, -6, -4, 0.96)]
)
def test_keypoints_go_where_the_face_goes(
    clip: list[Frame], face: Detection, x: float, y: float, degrees: float, scale: float
) -> None:
    affine = np.asarray(cv2.getRotationMatrix2D((256, 256), degrees, scale), np.float64)
    affine[:, 2] += (x, y)
    model = FlowModel()
    fit = model.begin(clip[0], face)
    assert fit is not None
    followed = model.move(fit, moved(clip[0], affine))
    assert followed is not None
    eyes = np.linalg.norm(face.keypoints[1] - face.keypoints[0])
    expected = face.keypoints @ affine[:, :2].T + affine[:, 2]
    assert np.linalg.norm(followed.landmarks - expected, axis=1).max() < 0.02 * eyes
    assert followed.presence > 0.9
    assert followed.size == pytest.approx(fit.size * scale, rel=0.02)


def test_four_frames_without_the_detector_stay_on_the_face(clip: list[Frame]) -> None:
    detector, model = SecondOpinionDetector(), FlowModel()
    apart = []
    for first in range(0, 100, 20):
        fit = model.begin(clip[first], five(detector.detect(clip[first])[0]))
        for frame in clip[first + 1 : first + 5]:
            assert fit is not None
            fit = model.move(fit, frame)
        assert fit is not None
        there = five(detector.detect(clip[first + 4])[0]).keypoints
        apart.append(float(np.linalg.norm(fit.landmarks - there, axis=1).mean() / np.linalg.norm(there[1] - there[0])))
    assert np.mean(apart) < 0.08


def test_a_face_is_followed_far_from_where_it_began(clip: list[Frame], face: Detection) -> None:
    """Also beyond the part of the picture that was first looked at."""
    model = FlowModel()
    fit = model.begin(clip[0], face)
    for step in range(1, 41):
        assert fit is not None
        fit = model.move(fit, moved(clip[0], np.array([[1.0, 0, -3.0 * step], [0, 1, 0]])))
    assert fit is not None
    eyes = np.linalg.norm(face.keypoints[1] - face.keypoints[0])
    expected = face.keypoints - f32([120, 0])
    assert np.linalg.norm(fit.landmarks - expected, axis=1).max() < 0.05 * eyes


@pytest.mark.parametrize("what", ["black", "grey board", "elsewhere"])
def test_a_face_that_is_gone_is_given_up(clip: list[Frame], face: Detection, empty: Frame, what: str) -> None:
    gone = clip[0].copy()
    if what == "black":
        gone[:] = 0
    elif what == "grey board":
        gone[60:440, 60:440] = 128
    else:
        gone = empty
    model = FlowModel()
    fit = model.begin(clip[0], face)
    assert fit is not None
    assert model.move(fit, gone) is None


def cloth(seed: int) -> Frame:
    """Return (240, 240, 3) of a fine texture, everywhere different."""
    noise = np.random.default_rng(seed).integers(0, 256, (240, 240, 3)).astype(np.uint8)
    soft = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.float32)
    return np.asarray((soft - soft.min()) * 255 / (soft.max() - soft.min()), np.uint8)


@pytest.mark.parametrize("seed", range(6))
def test_what_moves_before_half_the_face_does_not_take_its_keypoints_along(seed: int) -> None:
    """A point under it lands somewhere, and LK is sure of it; the way back leads elsewhere. Too many to outvote."""
    points = f32([[95, 100], [145, 100], [120, 122], [100, 145], [140, 145]])
    before = cloth(seed)
    after = np.roll(before, (3, 5), axis=(0, 1))
    after[:, 120:] = cloth(seed + 100)[:, 120:]
    model = FlowModel()
    fit = model.begin(before, Detection(0.9, f32([70, 60, 170, 180]), points))
    assert fit is not None
    followed = model.move(fit, after)
    assert followed is not None
    assert np.linalg.norm(followed.landmarks - points - f32([5, 3]), axis=1).max() < 0.25


def test_a_lost_face_is_hidden_and_asks_for_the_detector(clip: list[Frame], face: Detection, empty: Frame) -> None:
    tracker = FlowTracker(1)
    assert len(tracker.follow(clip[0], [face], SECONDS).faces) == 1
    scene = tracker.follow(empty, None, SECONDS)
    assert (scene.faces, len(scene.hidden), scene.confidence) == ([], 1, 0.0)


def test_a_detection_corrects_what_flow_got_wrong(clip: list[Frame], face: Detection) -> None:
    """At once where they differ much, half way where the detector only trembles."""
    model = FlowModel()
    eyes = float(np.linalg.norm(face.keypoints[1] - face.keypoints[0]))
    fit = model.begin(clip[0], face)
    assert fit is not None
    for step, share in ((0.3, 1.0), (0.02, 0.5)):
        there = Detection(0.9, face.box, f32(face.keypoints + np.array([step * eyes, 0])))
        corrected = model.confirm(fit, clip[0], there).landmarks - fit.landmarks
        np.testing.assert_allclose(corrected, np.tile([share * step * eyes, 0], (5, 1)), atol=0.01)


def test_a_face_at_the_edge_is_followed_or_given_up_but_never_fails(clip: list[Frame], face: Detection) -> None:
    model = FlowModel()
    for shift in range(0, 512, 64):
        affine = np.array([[1.0, 0, shift], [0, 1, 0]])
        there = Detection(
            0.9, f32(face.box + np.array([shift, 0, shift, 0])), f32(face.keypoints + np.array([shift, 0]))
        )
        frame = moved(clip[0], affine)
        fit = model.begin(frame, there)
        if fit is not None:
            model.move(fit, frame)


def test_cuts_are_noticed_and_nothing_else(clip: list[Frame], portrait: Frame) -> None:
    watch = SceneCuts()
    assert not any(watch.cut(frame) for frame in clip[:60])
    dimmed = (clip[60] * 0.5).astype(np.uint8)
    assert not watch.cut(dimmed)  # a lamp went out
    assert watch.cut(np.asarray(cv2.resize(portrait, (512, 512)), np.uint8))
    assert watch.cut(np.zeros_like(clip[0]))
    assert not watch.cut(np.zeros_like(clip[0]))
    assert not SceneCuts().cut(np.zeros((1, 1, 3), np.uint8))
