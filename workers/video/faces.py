"""The values the stages hand each other: detections, tracked faces, and what one frame shows."""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from workers.video.pixels import Float, f32

Box = Float  # (4,) xyxy px
HOLD_FRAMES = 15  # half a second at 30 fps: how long the place, and the identity, of a lost face are kept

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """One face a detector found."""

    score: float  # 0..1
    box: Box  # (4,) xyxy px
    keypoints: Float
    """(K, 2) px, first right eye, left eye and nose. The vendored graphs go on with mouth, right ear, left ear (K = 6);
    SCRFD with right and left corner of the mouth (K = 5). Right and left are the person's own."""

    @property
    def size(self) -> float:
        """The longer side of the box, px."""
        return side(self.box)


class TrackMemory:
    """What the stages remember about one track (statistics, smoothing). It dies with the track."""

    def __init__(self) -> None:
        """Start empty."""
        self._kept: dict[type, object] = {}

    def recall(self, kind: type[T]) -> T:
        """Return this track's `kind`, default-constructed on the first call."""
        kept = self._kept.setdefault(kind, None)
        if not isinstance(kept, kind):
            kept = self._kept[kind] = kind()
        return kept


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFace:
    """A face to swap in this frame."""

    track: int  # stable while the face is followed
    landmarks: Float  # (N, 2 or 3) px; the tracker's model decides N
    box: Box  # what to cover where the face cannot be swapped
    confidence: float  # 0..1
    stable: bool
    memory: TrackMemory


@dataclass(frozen=True, slots=True)
class Scene:
    """What a tracker made of one frame."""

    faces: list[TrackedFace] = field(default_factory=list)
    """The largest faces, at most `max_faces`, that can be swapped."""
    hidden: list[Box] = field(default_factory=list)
    """Faces that should be swapped and cannot be right now: covered whatever the settings."""
    bystanders: list[Box] = field(default_factory=list)
    """Faces beyond `max_faces`: covered unless the settings show them."""

    @property
    def confidence(self) -> float:
        """The lowest of the faces, 0..1; 0 where there is none or one is hidden."""
        return 0.0 if self.hidden or not self.faces else min(face.confidence for face in self.faces)


def side(box: Box) -> float:
    """Return the longer side of `box`, px."""
    return float(max(box[2] - box[0], box[3] - box[1]))


def overlap(box: Box, boxes: Float) -> Float:
    """Return intersection over union of `box` (4,) with each of `boxes` (N, 4)."""
    corners = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = np.clip(corners[1] - corners[0], 0, None).prod(axis=1)
    area = (box[2:] - box[:2]).prod()
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return f32(shared / np.maximum(area + areas - shared, 1e-6))


def bounds(points: Float) -> Box:
    """Return the box around `points` (N, 2 or more), of which x and y count."""
    xy = points[:, :2]
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)]).astype(np.float32)
