"""Pasting a crop back: soft at its rim, exact inside, and nothing touched outside."""

import cv2
import numpy as np
import pytest

from workers.video.engine import Frame
from workers.video.faces import TrackMemory
from workers.video.neural import align
from workers.video.neural.light import in_the_light_of
from workers.video.neural.paste import NeuralPatch, Paster
from workers.video.neural.soft_mask import mask_for
from workers.video.pixels import Affine, f32

WHITE = np.full((128, 128, 3), 255, np.uint8)


def placed(scale: float, degrees: float, x: float, y: float) -> Affine:
    """Return frame px to crop px for a crop around (x, y)."""
    turn = np.deg2rad(degrees)
    spin = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return align.inverse(np.column_stack([spin, np.array([x, y]) - spin @ np.array([63.5, 63.5])]))


def grey(height: int = 300, width: int = 400) -> Frame:
    return np.full((height, width, 3), 100, np.uint8)


@pytest.mark.parametrize("degrees", [0, 17, 90, -140])
def test_the_middle_is_the_crop_and_the_outside_is_the_frame(degrees: float) -> None:
    frame = grey()
    Paster().paste(frame, WHITE, placed(1.5, degrees, 200, 150))
    assert (frame[120:180, 170:230] == 255).all()
    rows, columns = np.mgrid[:300, :400]
    assert (frame[np.hypot(rows - 150, columns - 200) > 1.5 * 91] == 100).all()
    assert 100 < frame[..., 0].mean() < 255


def test_the_rim_is_soft() -> None:
    frame = grey()
    Paster().paste(frame, WHITE, placed(1.5, 0, 200, 150))
    line = frame[150, 100:200, 0].astype(int)
    assert (np.diff(line) >= 0).all()
    assert np.diff(line).max() < 40


@pytest.mark.parametrize(("x", "y"), [(0, 0), (399, 299), (-60, 150), (200, 340)])
def test_a_face_across_the_edge_is_pasted_as_far_as_it_is_in_view(x: float, y: float) -> None:
    frame, wide = grey(), grey(900, 1000)
    Paster().paste(frame, WHITE, placed(1.5, 5, x, y))
    Paster().paste(wide, WHITE, placed(1.5, 5, x + 300, y + 300))
    inside = wide[300:600, 300:700]
    # What decides the softness is the part in view, so only the face's place and its middle are the same.
    assert np.abs(frame.astype(int) - inside).mean() < 6
    assert frame.max() > 200


@pytest.mark.parametrize("width", [1, 2, 10, 17, 33])
def test_a_narrow_frame_is_pasted_into_over_its_width(width: int) -> None:
    frame = grey(300, width)
    Paster().paste(frame, WHITE, placed(1.5, 5, width / 2, 150))
    assert (frame[140:160] == 255).all()
    assert (frame[:20] == 100).all()


@pytest.mark.parametrize(("x", "y"), [(-500, -500), (200, 5000)])
def test_a_face_out_of_view_changes_nothing(x: float, y: float) -> None:
    frame = grey()
    Paster().paste(frame, WHITE, placed(1.5, 30, x, y))
    assert (frame == 100).all()


def test_whoever_was_covered_beside_the_face_stays_covered() -> None:
    """The crop holds the neighbour's pixels too."""
    frame, whole = grey(), grey()
    to_crop = placed(2.0, 25, 200, 150)
    Paster().paste(whole, WHITE, to_crop)
    Paster().paste(frame, WHITE, to_crop, [f32([230.4, 100, 700, 180.2]), f32([-9, -9, -2, -2])])
    assert (frame[100:181, 230:] == 100).all()
    frame[100:181, 230:] = whole[100:181, 230:]
    np.testing.assert_array_equal(frame, whole)


def test_large_after_small_after_large_is_the_same() -> None:
    """The buffers that are kept hold nothing over."""
    paster, sizes = Paster(), (2.0, 0.4, 2.0)
    shown = []
    for scale in sizes:
        frame = grey()
        paster.paste(frame, WHITE, placed(scale, 12, 200, 150))
        shown.append(frame)
    np.testing.assert_array_equal(shown[0], shown[2])


def test_a_mask_fades_to_nothing_at_the_border_and_adds_up() -> None:
    for px, degrees in ((0.5, 0), (2, 33), (4.2, -80)):
        mask = mask_for(128, px, degrees, int(128 * px), mouth=False)
        assert max(mask[[0, -1]][..., :3].max(), mask[:, [0, -1]][..., :3].max()) < 10
        assert (mask[..., 0].astype(int) + mask[..., 3] == 255).all()
        assert mask[64, 64, 0] == 255


@pytest.mark.parametrize("crop_px", [6, 10, 17, 24, 31, 45, 60, 120, 500])
@pytest.mark.parametrize("degrees", [0, 20, 45, -135])
def test_a_small_face_is_as_much_covered_by_its_swap_as_a_large_one(crop_px: int, degrees: float) -> None:
    """The reference's least rim of ten px would leave most of a face of twenty bare."""
    frame = grey(800, 800)
    to_crop = placed(crop_px / 128, degrees, 400, 400)
    Paster().paste(frame, WHITE, to_crop)
    rows, columns = np.mgrid[:800, :800]
    places = np.stack([columns, rows], axis=-1) @ to_crop[:, :2].T + to_crop[:, 2]
    face = np.hypot((places[..., 0] - 64) / 46, (places[..., 1] - 66) / 56) < 1  # hairline to chin
    assert ((frame[face].astype(int) - 100) / 155).mean() > 0.9


def test_masks_of_one_size_class_are_one() -> None:
    assert mask_for(128, 2.0, 0.1, 256, mouth=False) is mask_for(128, 2.001, -0.2, 257, mouth=False)


def test_the_performers_mouth_stays_where_the_options_say_so() -> None:
    to_crop = placed(1.5, 0, 200, 150)
    open_mouth, closed = grey(), grey()
    Paster().paste(open_mouth, WHITE, to_crop, keep_mouth=True)
    Paster().paste(closed, WHITE, to_crop)
    x, y = np.rint(
        align.template(128)[3:].mean(axis=0) @ (1.5 * np.eye(2)) + [200 - 1.5 * 63.5, 150 - 1.5 * 63.5]
    ).astype(int)
    assert open_mouth[y, x, 0] < 110 < closed[y, x, 0]
    assert open_mouth[110, 200, 0] == 255


def test_an_enhancer_is_given_the_swapped_face_in_its_own_alignment(portrait: Frame) -> None:
    frame = np.asarray(cv2.resize(portrait, (400, 400)), np.uint8)
    points = f32(align.template(128) * 1.5 + [100, 90])
    to_crop = align.similarity(points, align.template(128))
    ffhq = align.similarity(points, align.ffhq_template())
    assert to_crop is not None
    assert ffhq is not None
    patch = NeuralPatch(frame, points, WHITE, to_crop, TrackMemory(), Paster())
    drawn = patch.drawn(ffhq, align.FFHQ_SIDE)
    assert drawn.shape == (512, 512, 3)
    assert (drawn[256, 256] == 255).all()
    plain = align.warp(frame, ffhq, 512)
    np.testing.assert_array_equal(drawn[:4], plain[:4])
    improved = patch.replaced(np.full_like(drawn, 7), ffhq)
    shown = frame.copy()
    improved.paste(shown)
    assert (shown[np.rint(points[2, 1]).astype(int), np.rint(points[2, 0]).astype(int)] == 7).all()


def test_light_follows_the_target_as_far_as_it_may(portrait: Frame) -> None:
    crop = np.asarray(cv2.resize(portrait, (128, 128)), np.uint8)
    dark = (crop * 0.6).astype(np.uint8)
    lit = in_the_light_of(dark, crop, 1.0)
    half = in_the_light_of(dark, crop, 0.5)
    middle = slice(50, 90)
    means = [float(picture[middle, middle].mean()) for picture in (dark, lit, half, crop)]
    assert abs(means[1] - means[0]) < 6
    assert means[0] < means[2] < means[3]
    np.testing.assert_array_equal(in_the_light_of(dark, crop, 0.0), crop)
