"""Faces: statistics over published frames. They are state for people and reports; no decision follows from them.

| figure | meaning |
|---|---|
| share | published frames with a face, of all published |
| interval | frames from one run of the detector to the next: shortest, longest, mean; not across workers |
| stable | confidence >= 0.85 for 3 consecutive detections, until one below it, or one that finds nobody |
"""

import msgspec
from msgspec.structs import replace

from schemas.events import VideoProcessed
from schemas.policy_config import PolicyConfig


class FacesState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Counts since the session's start. Intervals are in published frames."""

    frames: int = 0
    with_faces: int = 0
    detections: int = 0
    since_detection: int | None = None
    """Frames since the worker's last detection; None before its first."""
    intervals: int = 0
    interval_sum: int = 0
    shortest: int = 0
    longest: int = 0
    sure: int = 0
    """Consecutive detections of enough confidence; the track is stable from `face_stable_detections` on."""
    stable_tracks: int = 0
    """How many times a track became stable."""

    @property
    def with_faces_pm(self) -> int | None:
        """Share of frames with faces, per mille; None before the first frame."""
        return self.with_faces * 1000 // self.frames if self.frames else None

    @property
    def mean_interval_milli(self) -> int | None:
        """Mean detector interval in thousandths of a frame; None before the first interval."""
        return self.interval_sum * 1000 // self.intervals if self.intervals else None


def on_published(state: FacesState, config: PolicyConfig, event: VideoProcessed) -> FacesState:
    """Fold a published frame."""
    since = state.since_detection
    if not event.detector_ran:
        return replace(
            state,
            frames=state.frames + 1,
            with_faces=state.with_faces + (event.faces > 0),
            since_detection=None if since is None else since + 1,
        )
    sure = state.sure + 1 if event.faces and event.confidence_pm >= config.face_stable_pm else 0
    state = replace(
        state,
        frames=state.frames + 1,
        with_faces=state.with_faces + (event.faces > 0),
        detections=state.detections + 1,
        since_detection=0,
        sure=sure,
        stable_tracks=state.stable_tracks + (sure == config.face_stable_detections),
    )
    if since is None:
        return state
    interval = since + 1
    return replace(
        state,
        intervals=state.intervals + 1,
        interval_sum=state.interval_sum + interval,
        shortest=interval if state.intervals == 0 else min(state.shortest, interval),
        longest=max(state.longest, interval),
    )


def on_took(state: FacesState) -> FacesState:
    """Fold a takeover of the video work: the new worker's tracker starts from nothing."""
    return replace(state, since_detection=None, sure=0)
