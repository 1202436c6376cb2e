"""Two people in one picture: each wears an identity, or is covered, or is a bystander; with either engine."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest

from schemas.media import Place
from tests.workers.video.neural.standins import neural_engine
from tests.workers.video.scenes import FRAME_US, Fit
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import (
    Bystanders,
    FaceEngine,
    FaceOutcome,
    FaceResult,
    FaceSession,
    FaceSettings,
    Frame,
    OnMiss,
)
from workers.video.measure import leak_ssim

ENGINES: dict[str, Callable[[], FaceEngine]] = {"embedded": EmbeddedFaceEngine, "neural": neural_engine}
MAN, WOMAN = (slice(None), slice(0, 470)), (slice(100, 356), slice(540, None))


@pytest.fixture(scope="module", params=ENGINES)
def any_engine(request: pytest.FixtureRequest) -> FaceEngine:
    return ENGINES[request.param]()


@pytest.fixture(scope="module")
def two(any_engine: FaceEngine, portrait: Frame, clip: list[Frame]) -> list[bytes]:
    """Templates of the woman and of the man."""
    return [any_engine.enrol(portrait), any_engine.enrol(clip[0])]


def played(engine: FaceEngine, session: FaceSession, frames: Sequence[Frame], first: int = 0) -> list[FaceResult]:
    return [engine.process([(session, frame, (first + n) * FRAME_US)])[0] for n, frame in enumerate(frames)]


def opened(engine: FaceEngine, worn: Sequence[bytes | None], bystanders: Bystanders = Bystanders.BLUR) -> FaceSession:
    return engine.open(FaceSettings(max_faces=2, bystanders=bystanders), worn)


def test_each_of_two_people_wears_an_identity_of_their_own(
    any_engine: FaceEngine, two: list[bytes], couple: list[Frame]
) -> None:
    """The man what he would wear if both wore it, the woman the other."""
    each, same, other = (
        played(any_engine, opened(any_engine, worn), couple) for worn in (two, two[:1] * 2, two[1:] * 2)
    )
    for mixed, first, second in zip(each, same, other, strict=True):
        assert mixed.faces == 2
        np.testing.assert_array_equal(mixed.frame[MAN], first.frame[MAN])
        np.testing.assert_array_equal(mixed.frame[WOMAN], second.frame[WOMAN])
        assert (first.frame[WOMAN] != second.frame[WOMAN]).mean() > 0.1


@pytest.mark.parametrize("bystanders", list(Bystanders))
def test_whoever_should_wear_what_is_not_usable_is_covered(
    any_engine: FaceEngine, two: list[bytes], couple: list[Frame], fit: Fit, bystanders: Bystanders
) -> None:
    session = opened(any_engine, [two[0], None], bystanders)
    for before, after in zip(couple, played(any_engine, session, couple), strict=True):
        assert after.faces == 1
        assert leak_ssim(before[WOMAN], after.frame[WOMAN], fit(before[WOMAN])) < 0.9


def test_whoever_should_wear_what_is_not_usable_is_covered_where_a_miss_may_pass(
    any_engine: FaceEngine, two: list[bytes], couple: list[Frame], fit: Fit
) -> None:
    """The woman is there alone, and comes first."""
    settings = FaceSettings(max_faces=2, on_miss=OnMiss.PASSTHROUGH, bystanders=Bystanders.SHOW)
    alone = [frame.copy() for frame in couple]
    for frame in alone:
        frame[:, :512] = 90
    for before, after in zip(alone, played(any_engine, any_engine.open(settings, [None, two[0]]), alone), strict=True):
        assert after.outcome is FaceOutcome.PASSED
        assert leak_ssim(before[WOMAN], after.frame[WOMAN], fit(before[WOMAN])) < 0.9


def test_a_face_too_small_to_swap_is_covered_where_it_may_be_whoever_has_nothing_usable(
    any_engine: FaceEngine, two: list[bytes], portrait: Frame
) -> None:
    """Where a miss may pass, too; if every identity is usable, it passes."""
    frame = np.full((360, 360, 3), 90, np.uint8)
    frame[20:80, 20:80] = cv2.resize(portrait, (60, 60), interpolation=cv2.INTER_AREA)
    settings = FaceSettings(max_faces=2, on_miss=OnMiss.PASSTHROUGH, bystanders=Bystanders.SHOW)
    for worn, raw in (([None, two[0]], False), (two, True)):
        (result,) = played(any_engine, any_engine.open(settings, worn), [frame])
        assert (result.outcome, np.array_equal(result.frame, frame)) == (FaceOutcome.PASSED, raw)


@pytest.mark.parametrize("bystanders", list(Bystanders))
def test_whoever_has_no_identity_is_a_bystander(
    any_engine: FaceEngine, two: list[bytes], couple: list[Frame], fit: Fit, bystanders: Bystanders
) -> None:
    session = opened(any_engine, two[:1], bystanders)
    for before, after in zip(couple, played(any_engine, session, couple), strict=True):
        assert after.faces == 1
        if bystanders is Bystanders.SHOW:
            np.testing.assert_array_equal(after.frame[WOMAN], before[WOMAN])
        else:
            assert leak_ssim(before[WOMAN], after.frame[WOMAN], fit(before[WOMAN])) < 0.9


def test_nobody_changes_faces_when_the_picture_changes_size(
    any_engine: FaceEngine, two: list[bytes], couple: list[Frame]
) -> None:
    """The woman is there first; the man comes in from the left."""
    session = opened(any_engine, two)
    alone = [frame.copy() for frame in couple[:2]]
    for frame in alone:
        frame[:, :512] = 90
    played(any_engine, session, alone)
    (before,) = played(any_engine, session, couple[:6], 2)[-1:]
    places = session.places
    assert [place.x_pm > 500 for place in places] == [True, False]
    played(any_engine, session, [np.ascontiguousarray(frame[::2, ::2]) for frame in couple[:2]], 8)
    for now, then in zip(session.places, places, strict=True):
        assert abs(now.x_pm - then.x_pm) < 60
    (after,) = played(any_engine, session, couple[5:6], 10)
    assert after.faces == before.faces == 2


def test_a_successor_keeps_everyones_face(any_engine: FaceEngine, two: list[bytes], couple: list[Frame]) -> None:
    """Knowing the places, the picture is what it would be with the identities the other way round from the left."""
    turned = opened(any_engine, two)
    turned.remember([place._replace(slot=1 - place.slot) for place in _places(any_engine, two, couple)])
    expected = played(any_engine, opened(any_engine, two[::-1]), couple)
    for one, other in zip(played(any_engine, turned, couple), expected, strict=True):
        np.testing.assert_array_equal(one.frame, other.frame)


def _places(engine: FaceEngine, two: list[bytes], couple: list[Frame]) -> tuple[Place, ...]:
    session = opened(engine, two)
    played(engine, session, couple[:1])
    return session.places
