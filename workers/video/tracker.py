"""Following faces from frame to frame: the largest by their landmarks, everyone else as a region to keep covered.

On every frame each followed face's landmarks are fitted again around its last place, by whatever model an engine has
(`FaceModel`). A detection, when there is one, confirms those tracks, ends those it contradicts, and ranks all faces by
size: the largest `max_faces` are followed by the model, the rest are bystanders. Faces that should be followed and
cannot be (lost, too small, no landmarks) are hidden until found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, Protocol, TypeVar

import numpy as np

from workers.video.cadence import Trust
from workers.video.engine import Frame
from workers.video.faces import HOLD_FRAMES, Box, Detection, Scene, TrackedFace, TrackMemory, bounds, overlap, side
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


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Where one face is in one frame."""

    landmarks: Float  # (N, 2 or 3) px
    box: Box  # the face, brows to chin or larger
    size: float  # px; the same whichever way the head turns, as well as the model can tell
    presence: float  # 0..1: how much this still looks like a face, or like the face that was followed


FitT = TypeVar("FitT", bound=Fit)


class FaceModel(Protocol[FitT]):
    """What an engine knows of a face's shape. None says that there is no usable face (any more)."""

    def begin(self, frame: Frame, detection: Detection) -> FitT | None:
        """Fit a face that was just detected in `frame`."""
        ...

    def move(self, fit: FitT, frame: Frame) -> FitT | None:
        """Fit the face again, in the frame after."""
        ...

    def confirm(self, fit: FitT, frame: Frame, detection: Detection) -> FitT:
        """Take what a detection says about a face that was already fitted in this `frame`."""
        ...


@dataclass(slots=True, eq=False)
class _Track(Generic[FitT]):
    number: int
    fit: FitT
    smooth: Float  # the landmarks as shown
    score: float
    smoother: LandmarkSmoother
    trust: Trust
    memory: TrackMemory = field(default_factory=TrackMemory)

    @property
    def box(self) -> Box:
        return self.fit.box


@dataclass(slots=True, eq=False)
class _Region:
    follower: RegionFollower
    hidden: bool
    unseen_frames: int = 0


class FaceTracker(Generic[FitT]):
    """The faces of one session."""

    def __init__(self, model: FaceModel[FitT], max_faces: int) -> None:
        """Follow up to `max_faces` faces with `model`."""
        self._model = model
        self._max_faces = max_faces
        self._numbers = count()
        self.reset()

    def reset(self) -> None:
        """Forget everyone: the picture's size changed, or so much time passed that places mean nothing."""
        self._tracks: list[_Track[FitT]] = []
        self._regions: list[_Region] = []

    def follow(self, frame: Frame, detections: Sequence[Detection] | None, seconds: float) -> Scene:
        """Return who is where in `frame`, `seconds` after the last; `detections` is None where the detector rested."""
        lost = [track for track in self._tracks if not self._move(track, frame)]
        for region in self._regions:
            region.unseen_frames += 1
            region.follower.follow(frame)
        self._tracks = _without_doubles([track for track in self._tracks if track not in lost])
        self._regions += [_Region(RegionFollower(frame, track.box), hidden=True) for track in lost]
        if detections is not None:
            self._judge(frame, detections)
        self._regions = [region for region in self._regions if region.unseen_frames <= HOLD_FRAMES]
        self._tracks.sort(key=lambda track: -track.fit.size)
        for track in self._tracks:
            track.smooth = track.smoother.step(track.fit.landmarks, seconds, track.fit.size)
        return Scene(
            faces=[_shown(track) for track in self._tracks],
            hidden=[region.follower.box for region in self._regions if region.hidden],
            bystanders=[region.follower.box for region in self._regions if not region.hidden],
        )

    def _move(self, track: _Track[FitT], frame: Frame) -> bool:
        fit = self._model.move(track.fit, frame)
        if fit is None or not _usable(fit, frame):
            return False
        track.fit = fit
        return True

    def _judge(self, frame: Frame, detections: Sequence[Detection]) -> None:
        """Let `detections` confirm or end tracks, and rank everyone anew."""
        newcomers = list(detections)
        for track in self._tracks:
            seen = _take_match(track.box, newcomers)
            track.trust = track.trust.unseen() if seen is None else track.trust.confirmed(seen.score)
            track.score = 0.0 if seen is None else seen.score
            if seen is not None:
                track.fit = self._model.confirm(track.fit, frame, seen)
        ended = [track for track in self._tracks if not track.trust.alive]
        self._tracks = [track for track in self._tracks if track.trust.alive]

        ranked: list[_Track[FitT] | Detection] = [*self._tracks, *newcomers]
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

    def _begin(self, frame: Frame, detection: Detection) -> _Track[FitT] | None:
        fit = self._model.begin(frame, detection)
        if fit is None or not _usable(fit, frame):
            return None
        trust = Trust().confirmed(detection.score)
        return _Track(next(self._numbers), fit, fit.landmarks, detection.score, LandmarkSmoother(), trust)


class MeshTracker(FaceTracker[Fit]):
    """The faces of one session, by mesh."""

    def __init__(self, mesh: FaceMesh, max_faces: int) -> None:
        """Follow up to `max_faces` faces with `mesh`."""
        super().__init__(_MeshModel(mesh), max_faces)


class _MeshModel:
    """Landmarks from the mesh alone: a detection says where to look first, and nothing more."""

    def __init__(self, mesh: FaceMesh) -> None:
        self._mesh = mesh

    def begin(self, frame: Frame, detection: Detection) -> Fit:
        landmarks, _ = self._mesh.landmarks(frame, square_of_detection(detection, MARGIN))
        return self._around(landmarks, frame)  # settles the crop

    def move(self, fit: Fit, frame: Frame) -> Fit:
        return self._around(fit.landmarks, frame)

    def confirm(self, fit: Fit, frame: Frame, detection: Detection) -> Fit:  # noqa: ARG002 - the mesh knows better
        return fit

    def _around(self, landmarks: Float, frame: Frame) -> Fit:
        landmarks, presence = self._mesh.landmarks(frame, square_of_landmarks(landmarks, MARGIN))
        return Fit(landmarks, bounds(landmarks), face_size(landmarks), presence)


def _shown(track: _Track[FitT]) -> TrackedFace:
    confidence = min(track.fit.presence, track.score)
    return TrackedFace(track.number, track.smooth, track.box, confidence, track.trust.stable, track.memory)


def _usable(fit: Fit, frame: Frame) -> bool:
    """Say whether a fitted face is one, of a usable size, and with its middle in the picture."""
    if fit.presence < PRESENT or not np.isfinite(fit.landmarks).all() or fit.size < MIN_FACE_PX:
        return False
    height, width = frame.shape[:2]
    x, y = fit.landmarks[:, :2].mean(axis=0)
    return bool(0 <= x < width and 0 <= y < height)


def _rank(face: "_Track[FitT] | Detection") -> float:
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


def _without_doubles(tracks: list[_Track[FitT]]) -> list[_Track[FitT]]:
    """Drop the younger of two tracks that ended up on one face."""
    kept: list[_Track[FitT]] = []
    for track in sorted(tracks, key=lambda one: one.number):
        if not kept or overlap(track.box, np.stack([other.box for other in kept])).max() <= ONE_FACE_TWICE_IOU:
            kept.append(track)
    return kept
