"""What every face engine does, whatever it is made of."""

from collections.abc import Callable

import numpy as np
import pytest

from schemas.errors import EnrolmentRefused, InputRejected
from tests.workers.video.neural.standins import neural_engine
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import Bystanders, FaceEngine, FaceOutcome, FaceSettings, Frame, OnMiss

ENGINES: dict[str, Callable[[], FaceEngine]] = {"embedded": EmbeddedFaceEngine, "neural": neural_engine}
STAGES = {"detect", "track", "swap", "enhance", "paste"}


@pytest.fixture(scope="module", params=ENGINES)
def any_engine(request: pytest.FixtureRequest) -> FaceEngine:
    return ENGINES[request.param]()


@pytest.fixture(scope="module")
def any_template(any_engine: FaceEngine, portrait: Frame) -> bytes:
    return any_engine.enrol(portrait)


def test_it_knows_its_name(any_engine: FaceEngine) -> None:
    assert any_engine.name in ENGINES


def test_enrolment_refuses_a_picture_without_a_face(any_engine: FaceEngine, empty: Frame) -> None:
    with pytest.raises(EnrolmentRefused, match="no face"):
        any_engine.enrol(empty)


def test_enrolment_refuses_several_faces(any_engine: FaceEngine, couple: list[Frame]) -> None:
    with pytest.raises(EnrolmentRefused, match="several faces"):
        any_engine.enrol(couple[0])


def test_opening_refuses_a_foreign_template(any_engine: FaceEngine) -> None:
    with pytest.raises(InputRejected):
        any_engine.open(FaceSettings(), [b"\x81\xa6format\xa3abc"])


def test_a_template_serves_any_number_of_sessions_and_engines(
    any_engine: FaceEngine, any_template: bytes, clip: list[Frame]
) -> None:
    other = ENGINES[any_engine.name]()
    (one,) = any_engine.process([(any_engine.open(FaceSettings(), [any_template]), clip[0], 0)])
    (two,) = other.process([(other.open(FaceSettings(), [any_template]), clip[0], 0)])
    np.testing.assert_array_equal(one.frame, two.frame)


def test_results_come_in_the_order_of_jobs(any_engine: FaceEngine, any_template: bytes, clip: list[Frame]) -> None:
    frames = [clip[0], clip[60], clip[110]]
    alone = [any_engine.process([(any_engine.open(FaceSettings(), [any_template]), frame, 0)])[0] for frame in frames]
    jobs = [(any_engine.open(FaceSettings(), [any_template]), frame, 0) for frame in frames]
    for single, batched in zip(alone, any_engine.process(jobs), strict=True):
        np.testing.assert_array_equal(single.frame, batched.frame)


def test_a_result_reports_what_was_done(any_engine: FaceEngine, any_template: bytes, clip: list[Frame]) -> None:
    session = any_engine.open(FaceSettings(), [any_template])
    first, second = (any_engine.process([(session, clip[i], i * 33_367)])[0] for i in range(2))
    assert (first.outcome, first.faces, first.detector_ran) == (FaceOutcome.SWAPPED, 1, True)
    assert not second.detector_ran
    assert 700 <= first.confidence_pm <= 1000
    assert set(first.stages_us) <= STAGES
    assert "detect" in first.stages_us
    assert "detect" not in second.stages_us
    assert {"track", "swap", "paste"} <= set(second.stages_us)


@pytest.mark.parametrize(
    "settings",
    [FaceSettings(on_miss=on_miss, bystanders=bystanders) for on_miss in OnMiss for bystanders in Bystanders],
)
@pytest.mark.parametrize("wears", [True, False])
def test_only_passthrough_shows_an_input_as_it_came(
    any_engine: FaceEngine, any_template: bytes, clip: list[Frame], empty: Frame, settings: FaceSettings, *, wears: bool
) -> None:
    session = any_engine.open(settings, [any_template] if wears else [])
    for i, frame in enumerate([clip[0], empty, clip[1], np.zeros_like(empty)]):
        (result,) = any_engine.process([(session, frame, i * 33_367)])
        assert result.frame.shape == frame.shape
        assert result.frame.dtype == np.uint8
        if result.outcome is FaceOutcome.PASSED:
            assert settings.on_miss is OnMiss.PASSTHROUGH
        elif frame.any():
            assert not np.array_equal(result.frame, frame)


def test_no_jobs_no_results(any_engine: FaceEngine) -> None:
    assert any_engine.process([]) == []


@pytest.mark.parametrize("frame", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3))])
def test_what_is_not_a_frame_is_rejected(any_engine: FaceEngine, any_template: bytes, frame: Frame) -> None:
    with pytest.raises(InputRejected, match="8-bit BGR"):
        any_engine.process([(any_engine.open(FaceSettings(), [any_template]), frame, 0)])


@pytest.mark.parametrize("shape", [(1, 1), (2, 640), (640, 2), (16, 16), (97, 131)])
def test_odd_frames_are_covered(any_engine: FaceEngine, any_template: bytes, shape: tuple[int, int]) -> None:
    frame = np.full((*shape, 3), 200, np.uint8)
    (result,) = any_engine.process([(any_engine.open(FaceSettings(), [any_template]), frame, 0)])
    assert result.outcome is FaceOutcome.COVERED
    assert result.frame.shape == frame.shape


def test_a_frame_may_be_a_view(any_engine: FaceEngine, any_template: bytes, clip: list[Frame]) -> None:
    """A mirrored picture, for instance, which is not contiguous in memory."""
    (result,) = any_engine.process([(any_engine.open(FaceSettings(), [any_template]), clip[0][:, ::-1], 0)])
    assert result.outcome is FaceOutcome.SWAPPED
