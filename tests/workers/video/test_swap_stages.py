"""Roi, warp, mask, colour, sharpness and paste, each on its own, on a real face."""

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.video.scenes import Fit, difference
from workers.video import detail
from workers.video import template as codec
from workers.video.colour import Contrast, LipTone, lip_shift, match_colour
from workers.video.detail import matching_sigma
from workers.video.engine import Frame
from workers.video.faces import TrackedFace, TrackMemory, bounds
from workers.video.heal import without_smile
from workers.video.mask import FaceMask, face_mask
from workers.video.mesh_swap import MeshSwapper
from workers.video.patches import MeshPatch
from workers.video.pixels import Float, f32, u8
from workers.video.roi import Roi, roi_of
from workers.video.source import SourceFace, prepare
from workers.video.stages import SwapRequest
from workers.video.topology import INNER_LIPS, LEFT_EYE, RIGHT_EYE
from workers.video.warp import Warped, warp


@pytest.fixture(scope="module")
def landmarks(clip: list[Frame], fit: Fit) -> Float:
    return fit(clip[0])


@pytest.fixture(scope="module")
def roi(clip: list[Frame], landmarks: Float) -> Roi:
    found = roi_of(landmarks, clip[0])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def source(template: bytes) -> SourceFace:
    return prepare(codec.decode(template))


@pytest.fixture(scope="module")
def warped(source: SourceFace, landmarks: Float, roi: Roi) -> Warped:
    return warp(source, landmarks, roi)


@pytest.fixture(scope="module")
def mask(warped: Warped, landmarks: Float, roi: Roi) -> FaceMask:
    return face_mask(warped, landmarks, roi)


@given(st.floats(-600, 900), st.floats(-600, 900), st.floats(0.05, 6))
def test_a_roi_is_whole_cells_and_starts_inside(landmarks: Float, dx: float, dy: float, scale: float) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    found = roi_of(f32(landmarks * scale + np.array([dx, dy, 0])), frame)
    if found is None:
        return
    assert found.width % found.cell == found.height % found.cell == found.left % found.cell == 0
    assert 0 <= found.left < 640
    assert 0 <= found.top < 360
    cut = found.cut(frame)
    assert cut.shape == (found.height, found.width, 3)
    found.put(frame, np.full_like(cut, 7))
    assert (frame == 7).all(axis=2).sum() <= found.width * found.height


def test_a_roi_outside_the_picture_is_none(landmarks: Float) -> None:
    assert roi_of(landmarks + f32([2000, 0, 0]), np.zeros((360, 640, 3), np.uint8)) is None


def test_source_levels_halve_and_the_smallest_sufficient_is_taken(source: SourceFace) -> None:
    sides = [level.texture.shape[0] for level in source.levels]
    assert all(b == a // 2 for a, b in pairwise(sides))
    assert source.level_for(1000) is source.levels[0]
    assert source.level_for(source.levels[1].face_size) is source.levels[1]
    assert source.level_for(1) is source.levels[-1]


def test_a_face_warped_onto_itself_is_itself(source: SourceFace, template: bytes) -> None:
    """Also where coordinates must not shift by half a pixel between the map and the picture."""
    face = codec.decode(template)
    found = roi_of(face.points, face.picture)
    assert found is not None
    drawn = warp(source, face.points, found)
    whole = cv2.resize(drawn.visible, (found.width, found.height), interpolation=cv2.INTER_NEAREST)
    inside = cv2.erode(whole, np.ones((9, 9), np.uint8)) > 0
    expected = found.cut(without_smile(face.picture, face.points))
    assert difference(drawn.pixels[inside], expected[inside]) < 1.0


def test_the_mask_is_open_at_eyes_and_mouth_and_closed_outside(mask: FaceMask, landmarks: Float, roi: Roi) -> None:
    local = roi.local(landmarks)
    for opening in (RIGHT_EYE, LEFT_EYE):
        x, y = np.round(local[opening].mean(axis=0)).astype(int)
        assert mask.alpha[y, x] < 60
    assert mask.alpha[: roi.cell].max() <= 2
    assert mask.alpha[-roi.cell :].max() <= 2
    nose = np.round(local[1]).astype(int)
    assert mask.alpha[nose[1], nose[0]] >= 250


def test_an_open_mouth_is_left_open(source: SourceFace, clip: list[Frame], fit: Fit) -> None:
    points = fit(clip[60])
    found = roi_of(points, clip[60])
    assert found is not None
    opened = face_mask(warp(source, points, found), points, found)
    x, y = np.round(found.local(points)[INNER_LIPS].mean(axis=0)).astype(int)
    assert opened.alpha[y, x] == 0


def test_a_face_that_would_hardly_be_covered_is_declined(
    source: SourceFace, landmarks: Float, clip: list[Frame]
) -> None:
    """A mesh turned inside out shows no front: pasted, it would leave the performer's face as it is."""
    inside_out = landmarks.copy()
    inside_out[:, 0] = 512 - inside_out[:, 0]
    right_way, wrong_way = (
        TrackedFace(0, points, bounds(points), 1.0, stable=True, memory=TrackMemory())
        for points in (landmarks, inside_out)
    )
    requests = [SwapRequest(clip[0], face, source) for face in (right_way, wrong_way)]
    swapped, declined = MeshSwapper().swap(requests)
    assert swapped is not None
    assert swapped.mask.covered > 0.6
    assert declined is None


def test_lips_take_the_performers_colour(warped: Warped, mask: FaceMask, roi: Roi, clip: list[Frame]) -> None:
    target = roi.cut(clip[0])
    lips = cv2.resize(mask.lip_cells, (roi.width, roi.height), interpolation=cv2.INTER_NEAREST) > 200
    redness = [
        float(picture[lips].astype(np.float32).mean(axis=0) @ np.array([-0.5, -0.5, 1]))
        for picture in (match_colour(warped.pixels, target, mask, roi, TrackMemory()), target)
    ]
    assert redness[0] == pytest.approx(redness[1], abs=5)


def test_lips_out_of_sight_are_left_alone(mask: FaceMask) -> None:
    hidden = FaceMask(mask.alpha, mask.cells, mask.skin_cells, np.zeros_like(mask.lip_cells), mask.covered)
    missing = np.full((*mask.cells.shape, 3), 9, np.float32)
    assert not lip_shift(missing, hidden, TrackMemory()).any()


def test_lip_colour_changes_slowly() -> None:
    tone = LipTone()
    np.testing.assert_allclose(tone.step(f32([10, 10, 10])), 10)
    np.testing.assert_allclose(tone.step(f32([0, 20, 10])), [8, 12, 10])


def test_colour_takes_the_light_of_the_frame(warped: Warped, mask: FaceMask, roi: Roi, clip: list[Frame]) -> None:
    target = roi.cut(clip[0])
    skin = cv2.resize(mask.skin_cells, (roi.width, roi.height), interpolation=cv2.INTER_NEAREST) > 200
    for tint in ([1.0, 1.0, 1.0], [0.4, 0.6, 0.9], [0.15, 0.15, 0.15]):
        lit = u8((target * np.array(tint)).astype(np.uint8))
        matched = match_colour(warped.pixels, lit, mask, roi, TrackMemory())
        np.testing.assert_allclose(matched[skin].mean(axis=0), lit[skin].mean(axis=0), atol=4)


def test_contrast_changes_slowly_and_within_limits() -> None:
    contrast = Contrast()
    assert contrast.step(0.8) == 0.8
    assert contrast.step(1.2) == pytest.approx(0.84)
    for _ in range(200):
        last = contrast.step(9.0)
    assert last == pytest.approx(1.25)


def test_sharpness_is_brought_down_to_the_frames() -> None:
    sharp = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    everywhere = np.ones((64, 64), bool)
    assert matching_sigma(sharp, sharp, everywhere) == 0
    soft = u8(cv2.GaussianBlur(sharp, (0, 0), 1.2))
    assert 0.9 <= matching_sigma(sharp, soft, everywhere) <= 1.2
    assert matching_sigma(soft, sharp, everywhere) == 0
    assert matching_sigma(sharp, soft, ~everywhere) == 0


def test_sharpness_is_measured_at_once_and_then_apart_from_detections(
    warped: Warped, mask: FaceMask, roi: Roi, clip: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The detector looks at every fifth frame; one frame must not bear both."""
    memory, measured, now = TrackMemory(), [], 0

    def measure(*_: object) -> float:
        measured.append(now)
        return 0.5

    monkeypatch.setattr(detail, "matching_sigma", measure)
    for now in range(40):  # noqa: B007  (`measure` notes it)
        patch = MeshPatch(roi, roi.cut(clip[0]), warped.pixels, mask, memory)
        detail.DetailMatcher().enhance([patch])
    assert measured[0] == 0
    assert len(measured) == 5
    assert all(i % 5 for i in measured[1:])


def test_a_paste_changes_nothing_where_the_mask_is_empty(
    warped: Warped, mask: FaceMask, roi: Roi, clip: list[Frame]
) -> None:
    frame = clip[0].copy()
    MeshPatch(roi, roi.cut(clip[0]), warped.pixels, mask, TrackMemory()).paste(frame)
    part, before = roi.cut(frame), roi.cut(clip[0])
    np.testing.assert_array_equal(part[mask.alpha == 0], before[mask.alpha == 0])
    np.testing.assert_array_equal(part[mask.alpha == 255], warped.pixels[mask.alpha == 255])
