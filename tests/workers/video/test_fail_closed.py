"""Nothing raw gets out: no face, lost faces, visitors, errors. On real frames, through the real engine."""

import numpy as np
import pytest

from tests.workers.video.scenes import FRAME_US, Fit, Session, difference, play
from workers.video import cover
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import Bystanders, FaceOutcome, FaceSettings, Frame, OnMiss
from workers.video.measure import LEAK_SSIM, leak_ssim


def with_face_hidden(frame: Frame) -> Frame:
    """Return `frame` with a grey board held before the face."""
    board = frame.copy()
    board[120:380, 140:380] = 128
    return board


def test_a_covered_frame_is_beyond_recognition(clip: list[Frame], fit: Fit, engine: EmbeddedFaceEngine) -> None:
    for frame in clip[::20]:
        hidden = cover.covered(frame)
        assert leak_ssim(frame, hidden, fit(frame)) < 0.8
        assert engine._detector.detect(hidden) == []


@pytest.mark.parametrize("brightness", [1.0, 0.25, 0.1])
def test_a_covered_region_is_beyond_recognition(
    clip: list[Frame], fit: Fit, engine: EmbeddedFaceEngine, brightness: float
) -> None:
    for raw in clip[::40]:
        frame = (raw * brightness).astype(np.uint8)
        hidden = frame.copy()
        cover.cover_region(hidden, engine._detector.detect(raw)[0].box)
        assert leak_ssim(frame, hidden, fit(raw)) < 0.9
        assert engine._detector.detect(hidden) == []


def test_an_empty_picture_is_covered(engine: EmbeddedFaceEngine, template: bytes, empty: Frame) -> None:
    for result in play(engine, engine.open(FaceSettings(), [template]), [empty] * 3):
        assert result.outcome is FaceOutcome.COVERED
        assert result.faces == 0
        assert result.confidence_pm == 0
        assert result.detector_ran
        np.testing.assert_array_equal(result.frame, cover.covered(empty))


@pytest.mark.parametrize("gap", ["black", "hidden"])
def test_a_lost_face_is_never_shown_raw(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], fit: Fit, gap: str
) -> None:
    frames = [frame.copy() for frame in clip[:24]]
    for i in range(8, 14):
        frames[i] = np.zeros_like(frames[i]) if gap == "black" else with_face_hidden(frames[i])
    results = play(engine, engine.open(FaceSettings(), [template]), frames)
    assert all(result.outcome is FaceOutcome.SWAPPED for result in results[:8])
    assert all(result.outcome is FaceOutcome.COVERED for result in results[8:14])
    assert all(result.outcome is FaceOutcome.SWAPPED for result in results[15:])
    for i in [*range(8), *range(14, 24)]:
        assert leak_ssim(frames[i], results[i].frame, fit(frames[i])) < LEAK_SSIM


def test_a_jump_of_the_face_is_covered_until_found(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], fit: Fit
) -> None:
    """A cut to another place: the old track must not go on while the face is elsewhere."""
    moved = [np.roll(frame, 150, axis=1) for frame in clip[4:8]]
    for before, after in zip(
        [*clip[:4], *moved], play(engine, engine.open(FaceSettings(), [template]), [*clip[:4], *moved]), strict=True
    ):
        assert leak_ssim(before, after.frame, fit(before)) < LEAK_SSIM


def test_freeze_repeats_the_last_swapped_frame(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], empty: Frame
) -> None:
    session = engine.open(FaceSettings(on_miss=OnMiss.FREEZE), [template])
    first, swapped, missed = play(engine, session, [empty, clip[0], empty])
    np.testing.assert_array_equal(first.frame, cover.covered(empty))  # nothing to repeat yet
    np.testing.assert_array_equal(missed.frame, swapped.frame)
    assert missed.outcome is FaceOutcome.COVERED
    (smaller,) = play(engine, session, [empty[:256, :256]], first=3)
    np.testing.assert_array_equal(smaller.frame, cover.covered(empty[:256, :256]))  # nor a frame of another size


def test_blank_shows_black(engine: EmbeddedFaceEngine, template: bytes, empty: Frame) -> None:
    (result,) = play(engine, engine.open(FaceSettings(on_miss=OnMiss.BLANK), [template]), [empty])
    assert result.outcome is FaceOutcome.COVERED
    assert not result.frame.any()


def test_only_passthrough_passes(engine: EmbeddedFaceEngine, template: bytes, empty: Frame) -> None:
    (result,) = play(engine, engine.open(FaceSettings(on_miss=OnMiss.PASSTHROUGH), [template]), [empty])
    assert result.outcome is FaceOutcome.PASSED
    np.testing.assert_array_equal(result.frame, empty)


def woman_of(frame: Frame) -> Frame:
    return frame[100:356, 512:]


def test_a_bystander_is_blurred(engine: EmbeddedFaceEngine, template: bytes, couple: list[Frame], fit: Fit) -> None:
    """On every frame, those between detections too."""
    session = engine.open(FaceSettings(max_faces=1), [template])
    for before, after in zip(couple, play(engine, session, couple), strict=True):
        assert after.faces == 1
        woman = fit(woman_of(before))
        assert leak_ssim(woman_of(before), woman_of(after.frame), woman) < 0.9
        assert leak_ssim(before[:, :512], after.frame[:, :512], fit(before[:, :512])) < LEAK_SSIM


def test_a_bystander_who_moves_stays_blurred(
    engine: EmbeddedFaceEngine, template: bytes, couple: list[Frame], fit: Fit
) -> None:
    session = engine.open(FaceSettings(max_faces=1), [template])
    frames = []
    for i, frame in enumerate(couple):
        moved = np.full((600, 768, 3), 90, np.uint8)
        moved[:512] = frame
        moved[:512, 512:] = 90
        moved[60 + 12 * i : 316 + 12 * i, 512:] = woman_of(frame)
        frames.append(moved)
    for i, (before, after) in enumerate(zip(frames, play(engine, session, frames), strict=True)):
        part = slice(60 + 12 * i, 316 + 12 * i), slice(512, None)
        assert leak_ssim(before[part], after.frame[part], fit(before[part])) < 0.9


def test_bystanders_are_shown_when_the_settings_say_so(
    engine: EmbeddedFaceEngine, template: bytes, couple: list[Frame]
) -> None:
    session = engine.open(FaceSettings(max_faces=1, bystanders=Bystanders.SHOW), [template])
    for before, after in zip(couple, play(engine, session, couple), strict=True):
        np.testing.assert_array_equal(woman_of(before), woman_of(after.frame))


def test_two_faces_are_both_swapped_where_two_may_be(
    engine: EmbeddedFaceEngine, clip: list[Frame], couple: list[Frame], fit: Fit
) -> None:
    session = engine.open(FaceSettings(max_faces=2), [engine.enrol(clip[0])] * 2)
    for before, after in zip(couple, play(engine, session, couple), strict=True):
        assert after.faces == 2
        assert leak_ssim(woman_of(before), woman_of(after.frame), fit(woman_of(before))) < LEAK_SSIM


def test_a_visitor_is_covered_from_the_first_detection(
    engine: EmbeddedFaceEngine, template: bytes, couple: list[Frame], fit: Fit
) -> None:
    alone = couple[0].copy()
    alone[:, 512:] = 90
    frames = [alone] * 7 + couple
    results = play(engine, engine.open(FaceSettings(max_faces=1), [template]), frames)
    first = next(i for i in range(7, len(frames)) if results[i].detector_ran)
    assert first - 7 < 5
    for before, after in zip(frames[first:], results[first:], strict=True):
        assert leak_ssim(woman_of(before), woman_of(after.frame), fit(woman_of(before))) < 0.9


def test_who_wears_nothing_is_covered(engine: EmbeddedFaceEngine, couple: list[Frame], fit: Fit) -> None:
    """Bystanders too, whatever the settings."""
    session = engine.open(FaceSettings(bystanders=Bystanders.SHOW), [])
    for before, after in zip(couple, play(engine, session, couple), strict=True):
        assert after.outcome is FaceOutcome.COVERED
        assert after.faces == 0
        assert leak_ssim(before, after.frame, fit(before)) < 0.9
        assert leak_ssim(woman_of(before), woman_of(after.frame), fit(woman_of(before))) < 0.9


def test_the_input_is_not_modified(engine: EmbeddedFaceEngine, template: bytes, couple: list[Frame]) -> None:
    session = engine.open(FaceSettings(on_miss=OnMiss.FREEZE), [template])
    for frame in couple[:2]:
        before = frame.copy()
        play(engine, session, [frame])
        np.testing.assert_array_equal(before, frame)


def test_a_time_jump_starts_over(engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame]) -> None:
    """After half a second without a frame, and when time runs backwards, the detector looks afresh."""
    session = engine.open(FaceSettings(), [template])
    for pts_us, detects in [(0, True), (FRAME_US, False), (600_000, True), (633_000, False), (100, True)]:
        (result,) = engine.process([(session, clip[0], pts_us)])
        assert result.detector_ran is detects
        assert result.outcome is FaceOutcome.SWAPPED


def test_detection_keeps_its_rhythm(engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame]) -> None:
    results = play(engine, engine.open(FaceSettings(), [template]), clip[:20])
    assert [result.detector_ran for result in results] == [i % 5 == 0 for i in range(20)]


def covers(result_frame: Frame, raw: Frame) -> bool:
    return difference(result_frame, raw) > 10


def broken(session: Session) -> None:
    """Leave the session with an identity that cannot be drawn."""
    session.worn = [identity and type(identity)(levels=()) for identity in session.worn]


@pytest.mark.parametrize("on_miss", list(OnMiss))
def test_an_error_covers_the_frame(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], on_miss: OnMiss
) -> None:
    """Also where misses would pass, and without disturbing another session of the same call."""
    sick = engine.open(FaceSettings(on_miss=on_miss), [template])
    broken(sick)
    well = engine.open(FaceSettings(), [template])
    covered, swapped = engine.process([(sick, clip[0], 0), (well, clip[0], 0)])
    assert covered.outcome is FaceOutcome.COVERED
    assert covers(covered.frame, clip[0])
    assert swapped.outcome is FaceOutcome.SWAPPED
