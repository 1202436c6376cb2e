"""How a session does, for its publisher: a fold of its metric events. Pure."""

from collections import deque
from statistics import median
from typing import Any

from schemas.errors import CodecError
from schemas.events import (
    ArchiveStatus,
    AudioProcessed,
    AudioSkipped,
    MetricEvent,
    VideoDropped,
    VideoProcessed,
    metric_events,
)

_WINDOW = 40
"""Medians are over this many last outcomes of a kind."""
_FPS_WINDOW_MS = 3_000
_MAX_SHOWN = 512
_ARCHIVE_TAG = b"archive_status"
_QUIET_US = 1_000_000
"""Without sound or picture for this long, nothing is late."""


def as_archive_status(data: bytes) -> ArchiveStatus | None:
    """Return the event in `data` if it is of that type. Cheap on others: they are not decoded."""
    if _ARCHIVE_TAG not in data:
        return None
    try:
        event = metric_events.decode(data)
    except CodecError:
        return None
    return event if isinstance(event, ArchiveStatus) else None


class StatusFold:
    """Folds outcomes; times are what it is given: the entry's milliseconds for events, a monotonic clock for ages."""

    def __init__(self) -> None:
        """Start without events."""
        self._runs: dict[str, deque[dict[str, int]]] = {"video": deque(maxlen=_WINDOW), "audio": deque(maxlen=_WINDOW)}
        self._shown_at: deque[int] = deque(maxlen=_MAX_SHOWN)  # monotonic us of the last pictures
        self._audio_end_us: int | None = None
        self._video_us: int | None = None
        self._gap_us: deque[int] = deque(maxlen=4)
        self._audio_at = self._video_at = 0
        self._sound: str | None = None
        self._archive: ArchiveStatus | None = None
        self._dropped = 0

    def fold(self, event: MetricEvent, *, now_us: int) -> None:
        """Take one event, read at monotonic time `now_us`."""
        match event:
            case VideoProcessed():
                self._runs["video"].append({**event.stages_us, "total": event.runtime_us})
                if self._video_us is not None:
                    self._gap_us.append(max(0, event.pts_us - self._video_us))
                self._video_us, self._video_at = event.pts_us, now_us
                self._shown_at.append(now_us)
            case AudioProcessed():
                self._runs["audio"].append({**event.stages_us, "total": event.runtime_us})
                self._audio_end_us, self._audio_at = event.pts_us + event.duration_us, now_us
                self._sound = event.outcome
            case VideoDropped() | AudioSkipped():
                self._dropped += 1
            case ArchiveStatus():
                self._archive = event
            case _:
                pass

    def recall(self, event: ArchiveStatus) -> None:
        """Take an event of before the fold began, unless a newer one has come since."""
        self._archive = self._archive or event

    def report(self, *, now_us: int) -> dict[str, Any]:
        """Return the `status` message at monotonic time `now_us`."""
        while self._shown_at and now_us - self._shown_at[0] > _FPS_WINDOW_MS * 1000:
            self._shown_at.popleft()
        archive = self._archive
        return {
            "type": "status",
            "late_ms": self._late_ms(now_us),
            "fps": self._fps(now_us),
            "dropped": self._dropped,
            "stage_ms": {kind: _medians(runs) for kind, runs in self._runs.items() if runs},
            "sound": self._sound,
            "archive": None if archive is None else {"state": archive.state, "missed": archive.missed},
        }

    def _fps(self, now_us: int) -> float:
        if not self._shown_at:
            return 0.0
        # A session that has just begun is not slow: its window is as long as it is old, at least a second.
        window_us = max(1_000_000, now_us - self._shown_at[0])
        return round(len(self._shown_at) * 1e6 / window_us, 1)

    def _late_ms(self, now_us: int) -> int | None:
        """Return how far picture is behind sound, beyond its usual gaps; None while there is nothing to compare."""
        if self._audio_end_us is None or self._video_us is None:
            return None
        if now_us - min(self._audio_at, self._video_at) > _QUIET_US:
            return None
        allowed_us = max(self._gap_us, default=0)
        return (self._audio_end_us - self._video_us - allowed_us) // 1000


def _medians(runs: deque[dict[str, int]]) -> dict[str, float]:
    stages = dict.fromkeys(stage for run in runs for stage in run)
    return {stage: round(median(run[stage] for run in runs if stage in run) / 1000, 2) for stage in stages}
