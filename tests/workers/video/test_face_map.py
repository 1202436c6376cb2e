"""Who wears which identity: kept while followed, found again by place, handed out from left to right."""

from collections.abc import Sequence

import numpy as np
import pytest

from schemas.media import Place
from workers.video.face_map import FaceMap
from workers.video.faces import HOLD_FRAMES, TrackedFace, TrackMemory

WIDTH, HEIGHT = 1000, 500


def face(track: int, x: float, y: float = 250.0) -> TrackedFace:
    """Return a followed face with its middle at (x, y) px."""
    box = np.array([x - 40, y - 50, x + 40, y + 50], np.float32)
    return TrackedFace(track, np.zeros((5, 2), np.float32), box, 1.0, stable=True, memory=TrackMemory())


def seen(state: FaceMap, *frames: Sequence[TrackedFace], width: int = WIDTH, height: int = HEIGHT) -> FaceMap:
    for faces in frames:
        state = state.after(faces, width=width, height=height)
    return state


def test_who_appears_together_is_dressed_from_left_to_right_whoever_is_larger() -> None:
    assert seen(FaceMap(3), [face(7, 900), face(8, 100), face(9, 500)]).worn == {8: 0, 9: 1, 7: 2}


def test_an_identity_stays_with_its_track_wherever_that_goes() -> None:
    crossing = [[face(1, 100 + step * 100), face(2, 900 - step * 100)] for step in range(9)]
    assert seen(FaceMap(2), *crossing).worn == {1: 0, 2: 1}


def test_a_newcomer_on_the_left_takes_no_identity_from_who_is_there() -> None:
    assert seen(FaceMap(2), [face(1, 800)], [face(1, 800), face(2, 100)]).worn == {1: 0, 2: 1}


def test_who_is_found_again_near_where_they_were_wears_the_same() -> None:
    both = [face(1, 800), face(2, 200)]
    first, second = seen(FaceMap(2), both).worn[2], seen(FaceMap(2), both).worn[1]
    again = seen(FaceMap(2), both, [], [face(3, 760), face(4, 260)])
    assert again.worn == {4: first, 3: second}


def test_a_stranger_far_from_who_left_gets_what_nobody_wore_yet() -> None:
    """And who left finds their own free."""
    state = seen(FaceMap(2), [face(1, 150)], [], [face(2, 850)])
    assert state.worn == {2: 1}
    assert seen(state, [face(2, 850), face(3, 150)]).worn == {2: 1, 3: 0}


def test_a_stranger_takes_what_is_left_over_once_it_is_free_for_half_a_second() -> None:
    """Until then it may be its wearer, somewhere else, and is not to be shown."""
    strange = [face(1, 100), face(3, 950)]
    state = seen(FaceMap(2), [face(1, 100), face(2, 500)], *[strange] * (HOLD_FRAMES - 1))
    assert (state.worn, state.waiting, state.bystanders) == ({1: 0}, frozenset({3}), frozenset())
    assert seen(state, [*strange, face(4, 510)]).worn == {1: 0, 4: 1}
    state = seen(state, strange)
    assert (state.worn, state.waiting) == ({1: 0, 3: 1}, frozenset())


def test_where_everybody_wears_the_same_nobody_waits() -> None:
    state = seen(FaceMap(1, contested=False), [face(1, 100)], [], [face(2, 900)])
    assert (state.worn, state.waiting) == ({2: 0}, frozenset())


def test_faces_beyond_the_identities_wear_none() -> None:
    state = seen(FaceMap(1), [face(1, 100), face(2, 500)])
    assert state.worn == {1: 0}
    assert seen(state, *[[face(1, 100), face(2, 500)]] * 40).worn == {1: 0}


def test_a_face_that_is_lost_for_a_moment_is_not_given_to_who_stands_beside() -> None:
    """Only half a second later, when its wearer has left."""
    beside = face(2, 200)
    state = seen(FaceMap(1), [face(1, 100), beside], *[[beside]] * (HOLD_FRAMES - 1))
    assert state.worn == {}
    assert seen(state, [face(3, 100), beside]).worn == {3: 0}
    assert seen(state, [beside]).worn == {2: 0}


def test_who_stands_beside_waits_anew_each_time() -> None:
    beside = face(2, 200)
    lost = [[beside]] * 10
    state = seen(FaceMap(1), [face(1, 100), beside], *lost, [face(3, 100), beside], *lost)
    assert state.worn == {}


def test_places_are_shares_of_the_picture() -> None:
    """The picture's size is a rung of the ladder; a change of it starts every track anew."""
    state = seen(FaceMap(2), [face(1, 800), face(2, 200)])
    assert state.places == (Place(0, 200, 500), Place(1, 800, 500))
    assert seen(state, [face(3, 400, 125), face(4, 100, 125)], width=500, height=250).worn == {4: 0, 3: 1}


def test_a_successor_who_knows_the_places_hands_out_the_same() -> None:
    """Without them it would go from left to right."""
    state = seen(FaceMap(2), [face(1, 800)], [face(1, 800), face(2, 100)])
    there = [face(0, 120), face(1, 790)]
    assert seen(FaceMap(2).continued(state.places), there).worn == {1: 0, 0: 1}
    assert seen(FaceMap(2), there).worn == {0: 0, 1: 1}


def test_places_of_identities_that_are_no_longer_worn_are_forgotten() -> None:
    assert FaceMap(1).continued([Place(0, 1, 2), Place(1, 3, 4)]).places == (Place(0, 1, 2),)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_order_in_which_a_tracker_lists_faces_says_nothing(order: tuple[int, int]) -> None:
    faces = [face(5, 500, 100), face(6, 500, 400)]
    assert seen(FaceMap(2), [faces[at] for at in order]).worn == {5: 0, 6: 1}
