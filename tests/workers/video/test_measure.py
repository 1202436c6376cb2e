"""The two measures, on cases whose answer is known."""

import cv2
import numpy as np
import pytest

from tests.workers.video.scenes import Fit
from workers.video.engine import Frame
from workers.video.measure import LEAK_SSIM, UV_SIDE, leak_ssim, texture_identity, unwrap
from workers.video.pixels import f32, u8
from workers.video.topology import INNER_LIPS, LEFT_EYE, RIGHT_EYE


def test_the_raw_frame_leaks(clip: list[Frame], fit: Fit) -> None:
    assert leak_ssim(clip[0], clip[0], fit(clip[0])) == pytest.approx(1)


@pytest.mark.parametrize("change", ["noise", "encode", "brighter"])
def test_a_thin_disguise_leaks(clip: list[Frame], fit: Fit, change: str) -> None:
    frame = clip[0]
    if change == "noise":
        other = u8(np.clip(frame + np.random.default_rng(0).normal(0, 1, frame.shape), 0, 255).astype(np.uint8))
    elif change == "encode":
        _, written = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 90])
        decoded = cv2.imdecode(written, cv2.IMREAD_COLOR)
        assert decoded is not None
        other = u8(decoded)
    else:
        other = u8(np.clip(frame + 6.0, 0, 255).astype(np.uint8))
    assert leak_ssim(frame, other, fit(frame)) > LEAK_SSIM


def test_eyes_and_mouth_do_not_count(clip: list[Frame], fit: Fit) -> None:
    landmarks, other = fit(clip[60]), clip[60].copy()
    shape = np.zeros(other.shape[:2], np.uint8)
    for opening in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
        cv2.fillPoly(shape, [np.round(landmarks[opening, :2]).astype(np.int32)], 1)
    other[cv2.erode(shape, np.ones((13, 13), np.uint8)) > 0] = 0
    assert leak_ssim(clip[60], other, landmarks) > 0.99


def test_another_face_does_not_leak(clip: list[Frame], portrait: Frame, fit: Fit) -> None:
    other = u8(cv2.resize(portrait, (512, 512)))
    assert leak_ssim(clip[0], other, fit(clip[0])) < 0.8


def test_outside_the_picture_there_is_nothing_to_leak(clip: list[Frame], fit: Fit) -> None:
    assert leak_ssim(clip[0], clip[0], fit(clip[0]) + f32([5000, 0, 0])) == 0


def test_an_unwrapped_face_is_the_same_in_any_pose(clip: list[Frame], fit: Fit) -> None:
    """The same picture, turned and scaled, unwraps to the same texture."""
    landmarks = fit(clip[0])
    turn = cv2.getRotationMatrix2D((256, 256), 30, 0.8)
    turned = u8(cv2.warpAffine(clip[0], turn, (512, 512)))
    moved = f32(landmarks[:, :2] @ turn[:, :2].T + turn[:, 2])
    straight, known = unwrap(clip[0], landmarks)
    again, _ = unwrap(turned, moved)
    assert straight.shape == (UV_SIDE, UV_SIDE, 3)
    assert known.mean() > 0.5
    assert np.abs(straight[known].astype(int) - again[known]).mean() < 3


def test_identity_tells_people_apart(clip: list[Frame], portrait: Frame, fit: Fit) -> None:
    woman, man = unwrap(portrait, fit(portrait)), unwrap(clip[0], fit(clip[0]))
    assert texture_identity(portrait, fit(portrait), woman) == pytest.approx(1)
    assert texture_identity(clip[20], fit(clip[20]), man) > 0.7
    assert texture_identity(clip[0], fit(clip[0]), woman) < 0.4


def test_identity_does_not_see_light(clip: list[Frame], fit: Fit) -> None:
    landmarks = fit(clip[0])
    shade = np.linspace(0.5, 1.0, 512)[None, :, None]
    shaded = u8((clip[0] * shade).astype(np.uint8))
    assert texture_identity(shaded, landmarks, unwrap(clip[0], landmarks)) > 0.9
