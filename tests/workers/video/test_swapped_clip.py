"""The whole clip, swapped: nothing leaks, it is the portrait's face, it holds still, and the rest is untouched."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from tests.workers.video.scenes import FRAME_US, Fit, difference, play
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import FaceOutcome, FaceResult, FaceSettings, Frame
from workers.video.faces import bounds
from workers.video.measure import LEAK_SSIM, leak_ssim, texture_identity, unwrap
from workers.video.pixels import f32, u8
from workers.video.topology import LEFT_EYE, RIGHT_EYE


def test_every_frame_is_swapped(swapped: list[FaceResult]) -> None:
    assert {(result.outcome, result.faces) for result in swapped} == {(FaceOutcome.SWAPPED, 1)}


def test_no_frame_leaks(clip: list[Frame], swapped: list[FaceResult], fit: Fit) -> None:
    leaks = [leak_ssim(before, after.frame, fit(before)) for before, after in zip(clip, swapped, strict=True)]
    assert [i for i, leak in enumerate(leaks) if leak > LEAK_SSIM] == []
    assert np.median(leaks) < 0.90


def degraded(frame: Frame, how: str) -> Frame:
    """Return `frame` as bad cameras and rooms make it: less texture to tell two faces apart by."""
    match how:
        case "soft":
            return np.asarray(cv2.GaussianBlur(frame, (0, 0), 6), np.uint8)
        case "dark":
            return u8((frame * 0.12).astype(np.uint8))
        case "flat":
            return u8((frame * 0.3 + 100).astype(np.uint8))
        case "glaring":
            return u8(np.clip(frame * 1.8 + 60.0, 0, 255).astype(np.uint8))
        case "noisy":
            return np.clip(frame + np.random.default_rng(1).normal(0, 8, frame.shape), 0, 255).astype(np.uint8)
        case _:
            return np.asarray(cv2.resize(frame, (1080, 1080), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("how", ["soft", "dark", "flat", "glaring", "noisy", "enlarged"])
def test_no_frame_leaks_in_poor_pictures(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], fit: Fit, how: str
) -> None:
    frames = [degraded(frame, how) for frame in clip[::24]]
    for before, after in zip(frames, play(engine, engine.open(FaceSettings(), [template]), frames), strict=True):
        assert leak_ssim(before, after.frame, fit(before)) < LEAK_SSIM


def test_the_face_is_the_portraits(clip: list[Frame], swapped: list[FaceResult], portrait: Frame, fit: Fit) -> None:
    reference = unwrap(portrait, fit(portrait))
    portraits, originals = [], []
    for before, after in zip(clip[::4], swapped[::4], strict=True):
        landmarks = fit(before)
        portraits.append(texture_identity(after.frame, landmarks, reference))
        originals.append(texture_identity(after.frame, landmarks, unwrap(before, landmarks)))
    assert np.median(portraits) > 0.6
    assert np.median(np.subtract(portraits, originals)) > 0.1
    assert np.mean(np.greater(portraits, originals)) > 0.9


def test_the_picture_around_the_face_is_untouched(clip: list[Frame], swapped: list[FaceResult], fit: Fit) -> None:
    for before, after in zip(clip[::20], swapped[::20], strict=True):
        x0, y0, x1, y1 = bounds(fit(before)).astype(int)
        outside = np.ones(before.shape[:2], bool)
        outside[y0 - 16 : y1 + 16, x0 - 16 : x1 + 16] = False
        np.testing.assert_array_equal(before[outside], after.frame[outside])


def test_the_eyes_stay_the_performers(clip: list[Frame], swapped: list[FaceResult], fit: Fit) -> None:
    for before, after in zip(clip[::10], swapped[::10], strict=True):
        landmarks = fit(before)
        for eye in (RIGHT_EYE, LEFT_EYE):
            canvas = np.zeros(before.shape[:2], np.uint8)
            cv2.fillPoly(canvas, [np.round(landmarks[eye, :2]).astype(np.int32)], 1)
            inner = cv2.erode(canvas, np.ones((5, 5), np.uint8)) > 0
            assert difference(before[inner], after.frame[inner]) < 8


def test_the_rim_shows_no_seam(clip: list[Frame], swapped: list[FaceResult], fit: Fit) -> None:
    """Along the rim of the mask the picture has no steeper edges than it had before."""
    for before, after in zip(clip[::10], swapped[::10], strict=True):
        landmarks = fit(before)
        hull = np.zeros(before.shape[:2], np.uint8)
        cv2.fillConvexPoly(hull, cv2.convexHull(landmarks[:, :2].astype(np.int32)), 1)
        kernel = np.ones((3, 3), np.uint8)
        rim = cv2.erode(hull, kernel, iterations=2) - cv2.erode(hull, kernel, iterations=16) > 0
        steep = [float(np.percentile(np.abs(cv2.Laplacian(one, cv2.CV_16S))[rim], 99)) for one in (before, after.frame)]
        assert steep[1] <= 1.2 * steep[0] + 2


def test_a_still_face_stays_still(engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], fit: Fit) -> None:
    """Camera noise alone must not make the face tremble: it moves no more than the noise itself does."""
    session = engine.open(FaceSettings(), [template])
    noise = np.random.default_rng(2)
    frames = [np.clip(clip[0] + noise.normal(0, 3, clip[0].shape), 0, 255).astype(np.uint8) for _ in range(20)]
    shown = [result.frame for result in play(engine, session, frames)][5:]
    x0, y0, x1, y1 = bounds(fit(clip[0])).astype(int)
    moves = [difference(a[y0:y1, x0:x1], b[y0:y1, x0:x1]) for a, b in pairwise(shown)]
    noises = [difference(a[y0:y1, x0:x1], b[y0:y1, x0:x1]) for a, b in pairwise(frames)]
    assert max(moves) < max(noises)


def test_the_face_moves_as_smoothly_as_the_performer(clip: list[Frame], swapped: list[FaceResult], fit: Fit) -> None:
    """Unwrapped to the mesh, where motion is taken out, the swapped face flickers no more than the performer's own."""
    own, worn = [], []
    for before, after in zip(clip[:60], swapped[:60], strict=True):
        landmarks = fit(before)
        own.append(unwrap(before, landmarks)[0])
        worn.append(unwrap(after.frame, landmarks)[0])
    flicker = [np.median([difference(a, b) for a, b in pairwise(face)]) for face in (own, worn)]
    assert flicker[1] < 1.1 * flicker[0]


def test_colour_is_stable(swapped: list[FaceResult], clip: list[Frame], fit: Fit) -> None:
    """The worn face's mean colour stays by the performer's, whose light it stands in."""
    for before, after in zip(clip[::10], swapped[::10], strict=True):
        landmarks = fit(before)
        own, known = unwrap(before, landmarks)
        worn, _ = unwrap(after.frame, landmarks)
        assert np.abs(own[known].mean(axis=0) - worn[known].mean(axis=0)).max() < 6


def test_the_frame_size_may_change(engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], fit: Fit) -> None:
    session = engine.open(FaceSettings(), [template])
    for number, (height, width) in enumerate(
        [(512, 512), (384, 384), (256, 256), (720, 1280), (1080, 1920), (512, 512)]
    ):
        side = min(height, width)
        frame = np.full((height, width, 3), 60, np.uint8)
        left = (width - side) // 2
        frame[:, left : left + side] = cv2.resize(clip[number], (side, side))
        (result,) = engine.process([(session, frame, number * FRAME_US)])
        assert result.outcome is FaceOutcome.SWAPPED
        assert result.frame.shape == frame.shape
        assert leak_ssim(frame, result.frame, fit(frame)) < LEAK_SSIM


@pytest.mark.parametrize("shift", [(-180, 0), (170, 0), (0, -200), (0, 150)])
def test_a_face_cut_by_the_edge_does_not_leak(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], fit: Fit, shift: tuple[int, int]
) -> None:
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float64)
    frame = np.asarray(cv2.warpAffine(clip[0], move, (512, 512)), np.uint8)
    (result,) = play(engine, engine.open(FaceSettings(), [template]), [frame])
    landmarks = fit(clip[0])
    landmarks[:, :2] += f32(shift)
    assert leak_ssim(frame, result.frame, landmarks) < LEAK_SSIM
