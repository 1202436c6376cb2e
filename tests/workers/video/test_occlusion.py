"""What may be left open of a swapped face: little, and only what certainly lies before it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.video.occlusion import (
    BODY_SKIN,
    CLASSES,
    CLOTHES,
    FACE_SKIN,
    FACE_ZONE,
    HAIR,
    MOST_OPEN,
    SIDE,
    THINGS,
    OcclusionMemory,
    opening,
)
from workers.video.pixels import Float, Mask, f32

BACKGROUND = 0
Shape = tuple[int, int, int, int, int, float]
HAND: Shape = (BODY_SKIN, 100, 100, 50, 16, 12.0)
"""Class, centre, radii, certainty: from the side over the mouth, and beyond the face."""


def scene(*shapes: Shape) -> Float:
    """Return logits (SIDE, SIDE, CLASSES): skin of the face, and before it ellipses of other classes."""
    scores = np.zeros((SIDE, SIDE, CLASSES), np.float32)
    scores[..., FACE_SKIN] = 6
    for kind, x, y, wide, high, certainty in shapes:
        canvas = np.zeros((SIDE, SIDE), np.uint8)
        cv2.ellipse(canvas, (x, y), (wide, high), 0, 0, 360, 1, -1)
        scores[canvas > 0] = 0
        scores[canvas > 0, kind] = certainty
    return f32(scores)


def seen(*shapes: Shape, frames: int = 20) -> OcclusionMemory:
    """Return the memory of a track that showed this, long enough to prove what is the face's own."""
    memory = OcclusionMemory()
    for _ in range(frames):
        opening(scene(*shapes), memory)
    return memory


def share(opened: Mask | None) -> float:
    return 0.0 if opened is None else float(opened[FACE_ZONE].mean()) / 255


def at(opened: Mask | None, x: int, y: int) -> int:
    return 0 if opened is None else int(opened[y, x])


def test_a_hand_that_comes_before_the_face_is_left_open_from_its_second_frame_on() -> None:
    memory = seen()
    assert opening(scene(HAND), memory) is None
    opened = opening(scene(HAND), memory)
    assert (at(opened, 80, 100), at(opened, 64, 60)) == (255, 0)
    assert opening(scene(), memory) is None  # and is gone with the hand


def test_a_face_with_nothing_before_it_is_not_opened() -> None:
    assert opening(scene(), seen()) is None


def test_a_hand_is_followed_as_far_as_hands_move_in_a_frame() -> None:
    memory = seen()
    for x in range(130, 90, -6):
        opened = opening(scene((BODY_SKIN, x, 100, 50, 16, 12.0)), memory)
    assert at(opened, 80, 100) == 255
    assert at(opening(scene((BODY_SKIN, 40, 30, 40, 10, 12.0)), memory), 40, 30) == 0  # a jump is not believed


def test_skin_that_always_passed_for_the_bodys_is_the_faces_own() -> None:
    """A chin that the segmenter takes for neck, from the first frame on."""
    chin: Shape = (BODY_SKIN, 64, 118, 60, 24, 12.0)
    memory = seen(chin, frames=100)
    opened = opening(scene(chin), memory)
    assert share(opened) == 0.0
    assert at(opening(scene(HAND, chin), seen()), 64, 118) == 0  # nor in the first frame of a mistake


@pytest.mark.parametrize(
    ("what", "shape", "x", "y", "open_there"),
    [
        ("a fringe", (HAIR, 64, 12, 60, 16, 12.0), 64, 14, 255),
        ("a beard", (HAIR, 64, 116, 60, 20, 12.0), 64, 110, 0),
        ("a fringe over the eyes", (HAIR, 64, 30, 60, 32, 12.0), 46, 52, 0),
        ("glasses", (THINGS, 64, 52, 62, 12, 12.0), 46, 52, 0),
        ("a microphone", (THINGS, 84, 116, 14, 30, 12.0), 82, 104, 255),
        ("a sleeve before the eyes", (CLOTHES, 64, 52, 62, 12, 12.0), 46, 52, 255),
        ("a mouth taken for a thing", (THINGS, 64, 92, 18, 8, 12.0), 64, 92, 0),
        ("a mole", (THINGS, 90, 80, 2, 2, 12.0), 90, 80, 0),
        ("no face where one is", (BACKGROUND, 100, 100, 50, 16, 12.0), 80, 100, 0),
        ("what may be a hand", (BODY_SKIN, 100, 100, 50, 16, 2.0), 80, 100, 0),
    ],
)
def test_what_is_left_open_and_what_never(what: str, shape: Shape, x: int, y: int, open_there: int) -> None:
    memory = seen()
    opening(scene(shape), memory)
    assert at(opening(scene(shape), memory), x, y) == open_there, what


def test_more_than_the_bound_opens_nothing_and_so_does_a_little_less_after_it() -> None:
    def hand(height: int) -> Float:
        return scene((BODY_SKIN, 64, 122, 64, height, 12.0))

    memory = seen()
    opening(hand(48), memory)
    assert 0.3 < share(opening(hand(48), memory)) < MOST_OPEN
    assert opening(hand(90), memory) is None
    assert opening(hand(48), memory) is None
    assert opening(hand(30), memory) is not None
    assert opening(hand(48), memory) is not None


def test_after_a_frame_that_went_by_unseen_a_hand_is_seen_twice_again() -> None:
    memory = seen()
    opening(scene(HAND), memory)
    memory.forget_last()
    assert opening(scene(HAND), memory) is None
    assert opening(scene(HAND), memory) is not None


SHAPES = st.lists(
    st.tuples(
        st.sampled_from(range(CLASSES)),
        st.integers(0, SIDE),
        st.integers(0, SIDE),
        st.integers(1, 90),
        st.integers(1, 90),
        st.floats(0, 30, width=32),
    ),
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SHAPES, min_size=1, max_size=4), SHAPES, st.integers(0, 255))
def test_whatever_the_segmenter_says_most_of_the_face_stays_covered(
    said: list[list[Shape]], before: list[Shape], proven: int
) -> None:
    """For every past: what is open is at most the bound, and only where something else than the face was likelier."""
    memory = OcclusionMemory()
    memory.other[:] = proven
    opening(scene(*before), memory)
    for shapes in said:
        scores = scene(*shapes)
        opened = opening(scores, memory)
        assert share(opened) <= MOST_OPEN
        if opened is not None:
            assert opened.shape == (SIDE, SIDE)
            assert not opened[np.isin(scores.argmax(axis=2), [BACKGROUND, FACE_SKIN])].any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 40]))
@settings(max_examples=50, deadline=None)
def test_noise_opens_no_more_than_the_bound(seed: int, strength: int) -> None:
    rng = np.random.default_rng(seed)
    memory = OcclusionMemory()
    memory.other[:] = 255
    for _ in range(3):
        coarse = rng.standard_normal((8, 8, CLASSES)).astype(np.float32) * strength
        assert share(opening(f32(cv2.resize(coarse, (SIDE, SIDE))), memory)) <= MOST_OPEN
