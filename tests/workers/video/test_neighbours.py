"""Faces side by side: every place of a face is pasted by its own patch alone, or covered."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.video.cover import FACE_REACH
from workers.video.faces import Box
from workers.video.neighbours import left_to_covered, left_to_swapped
from workers.video.pixels import f32

_SIDE = 60


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, top = (draw(st.integers(0, _SIDE - 12)) for _ in range(2))
    width, height = (draw(st.integers(4, 30)) for _ in range(2))
    return f32([left, top, left + width, top + height])


def inside(parts: list[Box]) -> NDArray[np.bool_]:
    """Return (120, 120) whether the middle of each px is in one of `parts`; the frame begins at -30."""
    at = np.arange(-30, 90) + 0.5
    found = np.zeros((120, 120), np.bool_)
    for left, top, right, bottom in parts:
        found |= ((at > top) & (at < bottom))[:, None] & ((at > left) & (at < right))
    return found


@given(boxes(), boxes())
def test_a_covered_face_keeps_its_box_and_what_is_around_it_outside_the_own_face(own: Box, other: Box) -> None:
    left, mine, theirs = inside(left_to_covered(own, other)), inside([own]), inside([other])
    assert left[theirs].all()
    assert not left[mine & ~theirs].any()
    middle, reach = (other[:2] + other[2:]) / 2, (other[2:] - other[:2]) / 2 * FACE_REACH
    around = inside([f32([*(middle - reach), *(middle + reach)])])
    assert left[around & ~mine].all()


@given(boxes(), boxes())
def test_of_two_swapped_faces_each_keeps_what_is_its_own_and_nothing_is_left_by_both(own: Box, other: Box) -> None:
    mine, theirs = inside([own]), inside([other])
    i_leave, they_leave = inside(left_to_swapped(own, other)), inside(left_to_swapped(other, own))
    assert i_leave[theirs & ~mine].all()
    assert they_leave[mine & ~theirs].all()
    assert not (i_leave & they_leave)[mine | theirs].any()
