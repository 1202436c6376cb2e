"""Following faces from frame to frame: the largest by mesh, everyone else as a region to keep covered.

On every frame each followed face's mesh is fitted again around its last place. A detection, when there is one, confirms
those tracks, ends those it contradicts, and ranks all faces by size: the largest `max_faces` are followed by mesh, the
rest are bystanders. Faces that should be followed and cannot be (lost, too small, no mesh) are hidden until found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from workers.video.cadence import Trust
from workers.video.engine import Frame
from workers.video.faces import Box, Detection, Scene, TrackedFace, TrackMemory, bounds, overlap, side
from workers.video.geometry import face_size, square_of_detection, square_of_landmarks
from workers.video.mesh import MARGIN, FaceMesh
from workers.video.motion import RegionFollower
from workers.video.pixels import Float
from workers.video.smoothing import LandmarkSmoother

PRESENT = 0.5
MIN_FACE_PX = 24.0  # below, the mesh has fewer pixels than vertices and a swap would be noise
SAME_FACE_IOU = 0.2  # detector boxes end at the brows, mesh bounds at the hairline
ONE_FACE_TWICE_IOU = 0.5
INCUMBENT_BONUS = 1.2  # two faces of like size do not take turns
HOLD_FRAMES = 15  # half a second at 30 fps: how long a region stays covered after it was last seen


@dataclass(slots=True, eq=False)
class _Track:
    number: int
    landmarks: Float  # (478, 3) px, as fitted
    smooth: Float  # (478, 3) px, as shown
    presence: float
    score: float
    smoother: LandmarkSmoother
    trust: Trust
    memory: TrackMemory = field(default_factory=TrackMemory)

    @property
    def box(self) -> Box:
        return bounds(self.landmarks)


@dataclass(slots=True, eq=False)
class _Region:
    follower: RegionFollower
    hidden: bool
    unseen_frames: int = 0


class MeshTracker:
    """The faces of one session."""

    def __init__(self, mesh: FaceMesh, max_faces: int) -> None:
        """Follow up to `max_faces` faces with `mesh`."""
        self._mesh = mesh
        self._max_faces = max_faces
        self._numbers = count()
        self.reset()

    def reset(self) -> None:
        """Forget everyone: the picture's size changed, or so much time passed that places mean nothing."""
        self._tracks: list[_Track] = []
        self._regions: list[_Region] = []

    def follow(self, frame: Frame, detections: Sequence[Detection] | None, seconds: float) -> Scene:
        """Return who is where in `frame`, `seconds` after the last; `detections` is None where the detector rested."""
        lost = [track for track in self._tracks if not self._refit(track, frame, seconds)]
        for region in self._regions:
            region.unseen_frames += 1
            region.follower.follow(frame)
        self._tracks = _without_doubles([track for track in self._tracks if track not in lost])
        self._regions += [_Region(RegionFollower(frame, track.box), hidden=True) for track in lost]
        if detections is not None:
            self._judge(frame, detections)
        self._regions = [region for region in self._regions if region.unseen_frames <= HOLD_FRAMES]
        self._tracks.sort(key=lambda track: -face_size(track.landmarks))
        return Scene(
            faces=[
                TrackedFace(
                    track.number, track.smooth, min(track.presence, track.score), track.trust.stable, track.memory
                )
                for track in self._tracks
            ],
            hidden=[region.follower.box for region in self._regions if region.hidden],
            bystanders=[region.follower.box for region in self._regions if not region.hidden],
        )

    def _refit(self, track: _Track, frame: Frame, seconds: float) -> bool:
        landmarks, track.presence = self._mesh.landmarks(frame, square_of_landmarks(track.landmarks, MARGIN))
        if not _usable(landmarks, track.presence, frame):
            return False
        track.landmarks = landmarks
        track.smooth = track.smoother.step(landmarks, seconds, face_size(landmarks))
        return True

    def _judge(self, frame: Frame, detections: Sequence[Detection]) -> None:
        """Let `detections` confirm or end tracks, and rank everyone anew."""
        newcomers = list(detections)
        for track in self._tracks:
            seen = _take_match(track.box, newcomers)
            track.trust = track.trust.unseen() if seen is None else track.trust.confirmed(seen.score)
            track.score = 0.0 if seen is None else seen.score
        ended = [track for track in self._tracks if not track.trust.alive]
        self._tracks = [track for track in self._tracks if track.trust.alive]

        ranked: list[_Track | Detection] = [*self._tracks, *newcomers]
        ranked.sort(key=lambda face: -_rank(face))
        chosen, rest = ranked[: self._max_faces], ranked[self._max_faces :]
        regions = [_Region(RegionFollower(frame, face.box), hidden=False) for face in rest]
        regions += [_Region(RegionFollower(frame, track.box), hidden=True) for track in ended]
        self._tracks = [face for face in chosen if isinstance(face, _Track)]
        for face in chosen:
            if isinstance(face, Detection):
                begun = self._begin(frame, face)
                if begun is None:
                    regions.append(_Region(RegionFollower(frame, face.box), hidden=True))
                else:
                    self._tracks.append(begun)
        seen_now = [track.box for track in self._tracks] + [region.follower.box for region in regions]
        held = [region for region in self._regions if not _overlaps_any(region.follower.box, seen_now)]
        self._regions = regions + held

    def _begin(self, frame: Frame, detection: Detection) -> _Track | None:
        square = square_of_detection(detection, MARGIN)
        landmarks, _ = self._mesh.landmarks(frame, square)
        landmarks, presence = self._mesh.landmarks(frame, square_of_landmarks(landmarks, MARGIN))  # settles the crop
        if not _usable(landmarks, presence, frame):
            return None
        smoother = LandmarkSmoother()
        smooth = smoother.step(landmarks, 1.0, face_size(landmarks))
        trust = Trust().confirmed(detection.score)
        return _Track(next(self._numbers), landmarks, smooth, presence, detection.score, smoother, trust)


def _usable(landmarks: Float, presence: float, frame: Frame) -> bool:
    """Say whether a fitted mesh is a face of a usable size whose middle lies in the picture."""
    if presence < PRESENT or not np.isfinite(landmarks).all() or face_size(landmarks) < MIN_FACE_PX:
        return False
    height, width = frame.shape[:2]
    x, y = landmarks[:, :2].mean(axis=0)
    return bool(0 <= x < width and 0 <= y < height)


def _rank(face: "_Track | Detection") -> float:
    return side(face.box) * INCUMBENT_BONUS if isinstance(face, _Track) else face.size


def _take_match(box: Box, detections: list[Detection]) -> Detection | None:
    """Remove and return the detection that overlaps `box` most, if any does enough."""
    if not detections:
        return None
    ious = overlap(box, np.stack([face.box for face in detections]))
    best = int(ious.argmax())
    return detections.pop(best) if ious[best] > SAME_FACE_IOU else None


def _overlaps_any(box: Box, boxes: list[Box]) -> bool:
    return bool(boxes) and bool(overlap(box, np.stack(boxes)).max() > SAME_FACE_IOU)


def _without_doubles(tracks: list[_Track]) -> list[_Track]:
    """Drop the younger of two tracks that ended up on one face."""
    kept: list[_Track] = []
    for track in sorted(tracks, key=lambda one: one.number):
        if not kept or overlap(track.box, np.stack([other.box for other in kept])).max() <= ONE_FACE_TWICE_IOU:
            kept.append(track)
    return kept
