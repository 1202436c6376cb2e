"""The publisher's status: a fold of metric events."""

from ingress.status import StatusFold, as_archive_status
from schemas.events import ArchiveStatus, AudioProcessed, AudioSkipped, DropReason, VideoDropped, VideoProcessed
from schemas.message import encode


def video(pts_us: int, runtime_us: int = 30_000) -> VideoProcessed:
    """Return the outcome of a frame."""
    return VideoProcessed(
        id="1-0",
        pts_us=pts_us,
        epoch=1,
        runtime_us=runtime_us,
        stages_us={"decode": 1_000, "swap": runtime_us - 1_000},
        faces=1,
        detector_ran=False,
        confidence_pm=900,
        outcome="swapped",
    )


def audio(pts_us: int, outcome: str = "converted") -> AudioProcessed:
    """Return the outcome of a chunk of 200 ms."""
    return AudioProcessed(
        id="1-0", pts_us=pts_us, epoch=1, duration_us=200_000, runtime_us=20_000, stages_us={"f0": 500}, outcome=outcome
    )


def test_a_new_session_has_nothing_to_report() -> None:
    assert StatusFold().report(now_us=5) == {
        "type": "status",
        "late_ms": None,
        "fps": 0.0,
        "dropped": 0,
        "stage_ms": {},
        "sound": None,
        "archive": None,
    }


def test_rates_medians_losses_and_lateness() -> None:
    fold = StatusFold()
    for i in range(60):
        fold.fold(video(i * 50_000, 30_000 if i % 3 else 90_000), now_us=i * 50_000)
    fold.fold(audio(3_000_000), now_us=2_950_000)
    fold.fold(VideoDropped(id="1-0", pts_us=0, epoch=1, reason=DropReason.LATE), now_us=2_950_000)
    fold.fold(AudioSkipped(id="1-0", pts_us=0, epoch=1, reason=DropReason.STALE), now_us=2_950_000)
    report = fold.report(now_us=3_000_000)
    assert report["fps"] == 20.0
    assert report["dropped"] == 2
    assert report["sound"] == "converted"
    assert report["stage_ms"] == {
        "video": {"decode": 1.0, "swap": 29.0, "total": 30.0},
        "audio": {"f0": 0.5, "total": 20.0},
    }
    assert report["late_ms"] == 200  # sound ends at 3.2 s, the picture stands at 2.95 s, frames come every 50 ms


def test_lateness_sleeps_and_fps_falls_to_zero_when_the_picture_stops() -> None:
    fold = StatusFold()
    fold.fold(video(0), now_us=0)
    fold.fold(audio(0, "gated"), now_us=0)
    report = fold.report(now_us=4_000_000)
    assert (report["late_ms"], report["fps"], report["sound"]) == (None, 0.0, "gated")


def test_pictures_of_a_status_that_nobody_asks_for_do_not_pile_up() -> None:
    fold = StatusFold()
    for i in range(2_000):
        fold.fold(video(i), now_us=i)
    assert len(fold._shown_at) == 512


def test_what_was_said_of_the_recording_before_the_fold_began_never_hides_what_came_since() -> None:
    before, since = (ArchiveStatus(producer="recorder", seq=i, state=s) for i, s in enumerate(("on", "degraded")))
    fold = StatusFold()
    fold.recall(before)
    assert fold.report(now_us=0)["archive"] == {"state": "on", "missed": 0}
    fold.fold(since, now_us=0)
    fold.recall(before)
    assert fold.report(now_us=0)["archive"] == {"state": "degraded", "missed": 0}


def test_only_an_archive_status_is_read_as_one() -> None:
    said = ArchiveStatus(producer="recorder", seq=0, state="behind", missed=3, detail="archive_status")
    assert as_archive_status(encode(said)) == said
    assert as_archive_status(encode(audio(0, "archive_status"))) is None
    assert as_archive_status(b"archive_status, cut") is None
    assert as_archive_status(b"") is None
