"""Taking the smile out of a portrait: what changes, how much, and what must not."""

import cv2
import numpy as np
import pytest

from tests.workers.video.scenes import Fit, difference
from workers.video import template as codec
from workers.video.engine import Frame
from workers.video.heal import smile, without_smile
from workers.video.template import FaceTemplate
from workers.video.topology import INNER_LIPS, LEFT_CHEEK, LEFT_FOLD, RIGHT_CHEEK, RIGHT_FOLD, Index


@pytest.fixture(scope="module")
def smiling(template: bytes) -> FaceTemplate:
    return codec.decode(template)


def inside(face: FaceTemplate, *outlines: Index) -> "np.typing.NDArray[np.bool_]":
    canvas = np.zeros(face.picture.shape[:2], np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [np.round(face.points[outline]).astype(np.int32)], 1)
    return np.asarray(canvas > 0)


def test_the_portrait_smiles_and_the_performer_does_not(smiling: FaceTemplate, clip: list[Frame], fit: Fit) -> None:
    assert smile(smiling.points) == 1
    assert all(smile(fit(frame)) < 0.2 for frame in clip[::20])


def test_a_smile_is_the_same_at_every_size_and_angle(smiling: FaceTemplate) -> None:
    turned = cv2.transform(smiling.points[None], np.array([[1.2, -1.6, 30.0], [1.6, 1.2, -9.0]]))[0]
    assert smile(turned.astype(np.float32)) == pytest.approx(smile(smiling.points), abs=1e-4)


def test_no_tooth_is_left_between_the_lips(smiling: FaceTemplate) -> None:
    healed = without_smile(smiling.picture, smiling.points)
    mouth = inside(smiling, INNER_LIPS)
    # Teeth are white and corners dark; lips are neither, and redder than both.
    before, after = (
        cv2.cvtColor(picture, cv2.COLOR_BGR2LAB)[mouth].astype(np.float32) for picture in (smiling.picture, healed)
    )
    assert np.ptp(after[:, 0]) < 0.5 * np.ptp(before[:, 0])
    assert after[:, 1].mean() > before[:, 1].mean()


def test_folds_are_faded_not_gone(smiling: FaceTemplate) -> None:
    """What is darker than the cheek beside it comes closer to it, and stays darker."""
    healed = without_smile(smiling.picture, smiling.points)
    grey = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32) for picture in (smiling.picture, healed)]
    for fold, cheek in ((RIGHT_FOLD, RIGHT_CHEEK), (LEFT_FOLD, LEFT_CHEEK)):
        line = np.zeros(smiling.picture.shape[:2], np.uint8)
        cv2.polylines(
            line, [np.round(smiling.points[fold[:-1]]).astype(np.int32)], isClosed=False, color=1, thickness=3
        )
        beside = inside(smiling, cheek)
        before, after = (float(one[beside].mean() - np.percentile(one[line > 0], 10)) for one in grey)
        assert 0.2 * before < after < 0.75 * before


def test_brows_eyes_and_forehead_are_untouched(smiling: FaceTemplate) -> None:
    healed = without_smile(smiling.picture, smiling.points)
    above = int(smiling.points[6, 1])  # the root of the nose
    np.testing.assert_array_equal(healed[:above], smiling.picture[:above])


def test_a_face_at_rest_keeps_its_cheeks(clip: list[Frame], fit: Fit) -> None:
    points = fit(clip[33])[:, :2].copy()
    assert smile(points) == 0
    healed = without_smile(clip[33], points)
    changed = np.flatnonzero((healed != clip[33]).any(axis=(1, 2)))
    lips = points[INNER_LIPS]
    margin = 0.1 * np.ptp(points[:, 1])
    assert changed.min() > lips[:, 1].min() - margin
    assert changed.max() < lips[:, 1].max() + margin
    assert difference(healed, clip[33]) < 0.5
