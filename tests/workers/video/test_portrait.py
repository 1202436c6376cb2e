"""Enrolment accepts one frontal face, and says what was wrong with anything else."""

import cv2
import numpy as np
import pytest

from schemas.errors import EnrolmentRefused
from workers.video import template as codec
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import Frame


def test_the_template_shows_the_upright_face(template: bytes) -> None:
    face = codec.decode(template)
    side = face.picture.shape[0]
    low, high = face.points.min(axis=0), face.points.max(axis=0)
    assert (low > 0).all()
    assert (high < side).all()
    np.testing.assert_allclose((low + high) / 2, [side / 2, side / 2], atol=2)


def test_a_tilted_portrait_is_set_upright(engine: EmbeddedFaceEngine, portrait: Frame) -> None:
    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1)
    tilted = cv2.warpAffine(portrait, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)
    points = codec.decode(engine.enrol(np.asarray(tilted, np.uint8))).points
    eyes = points[263] - points[33]
    assert abs(np.degrees(np.arctan2(eyes[1], eyes[0]))) < 1


def test_a_large_portrait_is_reduced(engine: EmbeddedFaceEngine, portrait: Frame) -> None:
    large = np.asarray(cv2.resize(portrait, None, fx=8, fy=8), np.uint8)
    assert codec.decode(engine.enrol(large)).picture.shape == (512, 512, 3)


def test_nobody(engine: EmbeddedFaceEngine, empty: Frame) -> None:
    with pytest.raises(EnrolmentRefused, match=r"no face.*accepted"):
        engine.enrol(empty)


def test_several(engine: EmbeddedFaceEngine, couple: list[Frame]) -> None:
    with pytest.raises(EnrolmentRefused, match=r"several faces.*exactly one person"):
        engine.enrol(couple[0])


def test_too_small(engine: EmbeddedFaceEngine, portrait: Frame) -> None:
    with pytest.raises(EnrolmentRefused, match=r"px wide.*at least 64 px"):
        engine.enrol(np.asarray(cv2.resize(portrait, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8))


@pytest.mark.parametrize("picture", [np.zeros((64, 64), np.uint8), np.zeros((0, 9, 3), np.uint8), np.zeros((9, 9, 3))])
def test_not_a_colour_picture(engine: EmbeddedFaceEngine, picture: Frame) -> None:
    with pytest.raises(EnrolmentRefused, match="not an 8-bit colour picture"):
        engine.enrol(picture)
