"""What is counted over five seconds of a session's media, from the outcomes alone. Pure."""

from schemas.events import AudioProcessed, VideoProcessed
from workers.video.cadence import DETECT_EVERY, REDETECT_BELOW

EVERY_US = 5_000_000

_REDETECT_PM = round(1000 * REDETECT_BELOW)


class _Window:
    """Says when five seconds of media have gone by."""

    def __init__(self) -> None:
        self._began_us: int | None = None

    def full(self, pts_us: int) -> bool:
        """Take the next media time; returns whether the window ends with it. The next one begins there."""
        if self._began_us is None:
            self._began_us = pts_us
        if pts_us - self._began_us < EVERY_US:
            return False
        self._began_us = pts_us
        return True


class DetectorTally:
    """How often the detector ran, and why."""

    def __init__(self) -> None:
        """Count from zero."""
        self._window = _Window()
        self._since: int | None = None  # frames since the detector's last run
        self._confidence_pm = 0
        self._clear()

    def _clear(self) -> None:
        self._frames = self._early = self._runs = 0
        self._intervals: list[int] = []

    def after(self, done: VideoProcessed) -> dict[str, int] | None:
        """Count a frame; returns the fields of `Detections` when they are due."""
        self._frames += 1
        if self._since is not None:
            self._since += 1
        if done.detector_ran:
            self._runs += 1
            if self._since is not None:
                self._intervals.append(self._since)
                self._early += self._since < DETECT_EVERY and self._confidence_pm < _REDETECT_PM
            self._since = 0
        self._confidence_pm = done.confidence_pm
        if not self._window.full(done.pts_us):
            return None
        counts = {
            "frames": self._frames,
            "runs": self._runs,
            "early": self._early,
            "shortest": min(self._intervals, default=0),
            "longest": max(self._intervals, default=0),
        }
        self._clear()
        return counts


class AcceptanceTally:
    """How many converted chunks were fast enough."""

    def __init__(self, accept_pm: int) -> None:
        """Accept chunks whose runtime is below `accept_pm` per mille of their duration."""
        self._accept_pm = accept_pm
        self._window = _Window()
        self._chunks = self._accepted = 0

    def after(self, done: AudioProcessed) -> dict[str, int] | None:
        """Count a chunk; returns the fields of `Acceptance` when they are due and there was something to convert."""
        if done.outcome == "converted":
            self._chunks += 1
            self._accepted += done.runtime_us * 1000 // max(1, done.duration_us) < self._accept_pm
        if not self._window.full(done.pts_us) or not self._chunks:
            return None
        counts = {"chunks": self._chunks, "accepted": self._accepted}
        self._chunks = self._accepted = 0
        return counts
