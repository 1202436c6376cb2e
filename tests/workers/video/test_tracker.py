"""Who is followed, who is a bystander, and who is hidden: the tracker on real pictures, fed with chosen detections."""

import cv2
import numpy as np
import pytest

from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.faces import HOLD_FRAMES, Detection, TrackMemory, bounds
from workers.video.mesh import FaceMesh
from workers.video.pixels import f32
from workers.video.tracker import MeshTracker

SECONDS = 1 / 30


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


@pytest.fixture(scope="module")
def detector() -> SecondOpinionDetector:
    return SecondOpinionDetector()


def test_nobody_before_a_detection(mesh: FaceMesh, clip: list[Frame]) -> None:
    scene = MeshTracker(mesh, 1).follow(clip[0], None, SECONDS)
    assert (scene.faces, scene.hidden, scene.bystanders, scene.confidence) == ([], [], [], 0.0)


def test_the_largest_are_followed_the_rest_are_bystanders(
    mesh: FaceMesh, detector: SecondOpinionDetector, couple: list[Frame]
) -> None:
    man, woman = found = detector.detect(couple[0])
    for order in (found, found[::-1]):
        scene = MeshTracker(mesh, 1).follow(couple[0], order, SECONDS)
        (face,), (bystander,) = scene.faces, scene.bystanders
        assert bounds(face.landmarks)[2] < 512
        np.testing.assert_array_equal(bystander, woman.box)
    both = MeshTracker(mesh, 2).follow(couple[0], [woman, man], SECONDS)
    assert len(both.faces) == 2
    assert not both.bystanders


def test_a_track_keeps_its_number_and_becomes_stable(
    mesh: FaceMesh, detector: SecondOpinionDetector, clip: list[Frame]
) -> None:
    tracker = MeshTracker(mesh, 1)
    numbers, stable = set(), []
    for i in range(16):
        found = detector.detect(clip[i]) if i % 5 == 0 else None
        (face,) = tracker.follow(clip[i], found, SECONDS).faces
        numbers.add(face.track)
        stable.append(face.stable)
    assert len(numbers) == 1
    assert stable == [False] * 10 + [True] * 6


def test_a_detection_where_no_face_is_hides_the_place(mesh: FaceMesh, empty: Frame) -> None:
    keypoints = f32([[200, 200], [300, 200], [250, 250], [250, 280], [180, 220], [320, 220]])
    wrong = Detection(0.9, f32([150, 150, 350, 350]), keypoints)
    scene = MeshTracker(mesh, 1).follow(empty, [wrong], SECONDS)
    assert not scene.faces
    np.testing.assert_array_equal(scene.hidden, [wrong.box])
    assert scene.confidence == 0


def test_a_lost_face_is_hidden_for_half_a_second(
    mesh: FaceMesh, detector: SecondOpinionDetector, clip: list[Frame], empty: Frame
) -> None:
    tracker = MeshTracker(mesh, 1)
    tracker.follow(clip[0], detector.detect(clip[0]), SECONDS)
    hidden = [bool(tracker.follow(empty, [], SECONDS).hidden) for _ in range(HOLD_FRAMES + 3)]
    assert hidden[0]
    assert not hidden[-1]
    assert hidden == sorted(hidden, reverse=True)


def test_a_slightly_larger_visitor_does_not_take_over(
    mesh: FaceMesh, detector: SecondOpinionDetector, portrait: Frame
) -> None:
    frame = np.full((300, 640, 3), 90, np.uint8)
    frame[:288, :288] = portrait
    tracker = MeshTracker(mesh, 1)
    (face,) = tracker.follow(frame, detector.detect(frame), SECONDS).faces
    bigger = frame.copy()
    bigger[:, 325:] = cv2.resize(portrait, (315, 315))[:300]
    scene = tracker.follow(bigger, detector.detect(bigger), SECONDS)
    assert [followed.track for followed in scene.faces] == [face.track]
    assert len(scene.bystanders) == 1


def test_a_face_too_small_to_swap_is_hidden(mesh: FaceMesh, detector: SecondOpinionDetector, portrait: Frame) -> None:
    large = np.full((512, 512, 3), 90, np.uint8)
    large[100:388, 100:388] = portrait
    (there,) = detector.detect(large)
    small = np.asarray(cv2.resize(large, (72, 72), interpolation=cv2.INTER_AREA), np.uint8)
    face = Detection(0.9, there.box * f32(72 / 512), there.keypoints * f32(72 / 512))
    scene = MeshTracker(mesh, 1).follow(small, [face], SECONDS)
    assert not scene.faces
    assert len(scene.hidden) == 1


def test_a_track_remembers_for_its_stages() -> None:
    class Count:
        def __init__(self) -> None:
            self.value = 0

    memory, other = TrackMemory(), TrackMemory()
    memory.recall(Count).value += 1
    memory.recall(Count).value += 1
    assert memory.recall(Count).value == 2
    assert other.recall(Count).value == 0
