"""Figures of faces and tracks: what they count, and that nothing is decided by them."""

from tests.policy.tape import Tape


def test_intervals_between_detections_are_counted_in_frames() -> None:
    tape = Tape()
    tape.frame(confidence_pm=900)
    for gap in (5, 5, 1, 9):
        tape.frames(gap - 1)
        tape.frame(confidence_pm=900)
    faces = tape.state.faces
    assert (faces.detections, faces.shortest, faces.longest, faces.mean_interval_milli) == (5, 1, 9, 5000)
    assert tape.decided == []


def test_an_interval_does_not_span_workers() -> None:
    tape = Tape()
    tape.frame(confidence_pm=900)
    tape.took(epoch=1)
    tape.frames(50)
    tape.frame(confidence_pm=900)
    assert tape.state.faces.intervals == 0
    assert tape.state.faces.mean_interval_milli is None


def test_a_track_is_stable_on_the_third_sure_detection_in_a_row() -> None:
    tape = Tape()
    for confidence_pm, sure, stable in ((850, 1, 0), (849, 0, 0), (850, 1, 0), (900, 2, 0), (850, 3, 1), (990, 4, 1)):
        tape.frame(confidence_pm=confidence_pm)
        tape.frame(confidence_pm=None)
        assert (tape.state.faces.sure, tape.state.faces.stable_tracks) == (sure, stable)
    tape.frame(faces=0, confidence_pm=990)
    assert tape.state.faces.sure == 0


def test_there_is_no_share_of_no_frames() -> None:
    assert Tape().state.faces.with_faces_pm is None


def test_the_share_of_frames_with_faces() -> None:
    tape = Tape()
    tape.frame(faces=2)
    tape.frame(faces=0)
    tape.frame(faces=1)
    assert tape.state.faces.with_faces_pm == 666
    tape.frame(faces=0, confidence_pm=0)
    tape.frame(faces=3, confidence_pm=900)
    assert (tape.state.faces.with_faces, tape.state.faces.frames) == (3, 5)
