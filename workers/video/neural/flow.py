"""Where a face's keypoints went since the last frame, by optical flow: about 0.5 ms a face, instead of the detector.

Lucas-Kanade (pyramidal, Bouguet 2000) moves the keypoints and a grid of points on the face, forwards and back again. A
point that does not return to where it came from was not followed; nor was one that disagrees with the similarity that
most of them make (least median of squares). The keypoints move by that similarity: rigidly, so that speech does not
shake the alignment. Only the surroundings of the face are looked at, at a size that does not grow with it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from workers.video.engine import Frame
from workers.video.faces import Box, Detection, side
from workers.video.pixels import Affine, Float, Mask, f32, u8
from workers.video.tracker import FaceTracker, Fit

_VIEW_PX = 160  # about how large the surroundings are looked at
_SURROUNDINGS = 1.5  # of the box
_ALONG = np.linspace(-0.32, 0.32, 4)  # of the box, about its centre
_GRID = f32(np.stack(np.meshgrid(_ALONG, _ALONG), axis=-1).reshape(-1, 2))
"""(16, 2): where points on the face are followed beside its keypoints."""
_WINDOW, _LEVELS = (15, 15), 2
_CRITERIA = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 20, 0.03)
_RETURNS = 1.0  # view px
_AGREES = 2.0  # view px
_FEWEST = 6
_MOST_GROWTH, _MOST_TURN = 1.25, np.deg2rad(25)  # a frame: beyond, points were mistaken for others
_SURE_SHARE = 0.7  # of the points: flat cheeks and moving lips may fail
_SAME_PLACE = 0.08  # of the eye distance: what a detector's keypoints tremble by
_TRUSTED = 0.5  # share of a detection that confirms the flow within that


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """A grey part of a frame, shrunk by a whole factor."""

    left: int
    top: int
    right: int
    bottom: int
    factor: int
    grey: Mask

    def local(self, points: Float) -> Float:
        """Return `points` (N, 2) frame px in px of this view."""
        return f32((points - f32([self.left, self.top]) + 0.5) / self.factor - 0.5)

    def beside(self, frame: Frame) -> Mask:
        """Return the same part of another frame."""
        return _grey(frame[self.top : self.bottom, self.left : self.right], self.factor)


@dataclass(frozen=True, slots=True, eq=False)
class FlowFit(Fit):
    """Five keypoints (5, 2), and what was around them."""

    view: _View | None


class FlowModel:
    """A `FaceModel` of five keypoints: detected, then carried on by optical flow."""

    def begin(self, frame: Frame, detection: Detection) -> FlowFit | None:
        """Take the keypoints of a detection."""
        return _fit(frame, detection.keypoints, detection.box, 1.0)

    def move(self, fit: FlowFit, frame: Frame) -> FlowFit | None:
        """Carry the keypoints on to `frame`; None where too few points could be followed."""
        if fit.view is None:
            return None
        points = fit.view.local(np.concatenate([fit.landmarks, _on_face(fit.box)]))
        found = _motion(fit.view.grey, fit.view.beside(frame), points)
        if found is None:
            return None
        motion, share = found
        factor, corner = fit.view.factor, np.array([fit.view.left, fit.view.top]) - 0.5 + fit.view.factor / 2
        turn = motion[:, :2]
        shift = corner + factor * motion[:, 2] - turn @ corner
        landmarks = f32(fit.landmarks @ turn.T + shift)
        centre = (fit.box[:2] + fit.box[2:]) / 2 @ turn.T + shift
        half = (fit.box[2:] - fit.box[:2]) / 2 * float(np.hypot(turn[0, 0], turn[1, 0]))
        box = f32(np.concatenate([centre - half, centre + half]))
        return _fit(frame, landmarks, box, min(share / _SURE_SHARE, 1.0))

    def confirm(self, fit: FlowFit, frame: Frame, detection: Detection) -> FlowFit:
        """Return to what the detector sees: half way where it agrees with the flow, at once where it does not."""
        apart = float(np.linalg.norm(detection.keypoints - fit.landmarks, axis=1).mean())
        eyes = float(np.linalg.norm(detection.keypoints[1] - detection.keypoints[0]))
        share = _TRUSTED if apart < _SAME_PLACE * eyes else 1.0
        landmarks = f32(fit.landmarks + share * (detection.keypoints - fit.landmarks))
        return _fit(frame, landmarks, detection.box, 1.0)


class FlowTracker(FaceTracker[FlowFit]):
    """The faces of one session, by optical flow."""

    def __init__(self, max_faces: int) -> None:
        """Follow up to `max_faces` faces."""
        super().__init__(FlowModel(), max_faces)


def _fit(frame: Frame, landmarks: Float, box: Box, presence: float) -> FlowFit:
    return FlowFit(landmarks, box, side(box), presence, _view(frame, box))


def _view(frame: Frame, box: Box) -> _View | None:
    """Return the surroundings of `box` in `frame`; None where too little of them is in the picture."""
    height, width = frame.shape[:2]
    if not np.isfinite(box).all():
        return None
    centre, reach = (box[:2] + box[2:]) / 2, side(box) * _SURROUNDINGS / 2
    factor = max(round(2 * reach / _VIEW_PX), 1)
    left, top = (max(int(value - reach), 0) for value in centre)
    right, bottom = (min(int(value + reach), most) for value, most in zip(centre, (width, height), strict=True))
    right, bottom = left + (right - left) // factor * factor, top + (bottom - top) // factor * factor
    if min(right - left, bottom - top) < 2 * _WINDOW[0] * factor:
        return None
    return _View(left, top, right, bottom, factor, _grey(frame[top:bottom, left:right], factor))


def _grey(part: Frame, factor: int) -> Mask:
    if factor > 1:
        size = (part.shape[1] // factor, part.shape[0] // factor)
        part = u8(cv2.resize(part, size, interpolation=cv2.INTER_AREA))
    return u8(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY))


def _on_face(box: Box) -> Float:
    return f32((box[:2] + box[2:]) / 2 + _GRID * (box[2:] - box[:2]))


def _motion(before: Mask, now: Mask, points: Float) -> tuple[Affine, float] | None:
    """Return the (2, 3) similarity from `before` to `now`, px of both, and the share of `points` (N, 2) that agree."""
    start = points[:, None]
    none_yet = np.empty_like(start)
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, now, start, none_yet, winSize=_WINDOW, maxLevel=_LEVELS, criteria=_CRITERIA
    )
    back, returned, _ = cv2.calcOpticalFlowPyrLK(
        now, before, moved, np.empty_like(start), winSize=_WINDOW, maxLevel=_LEVELS, criteria=_CRITERIA
    )
    followed = (found.ravel() == 1) & (returned.ravel() == 1)
    followed &= np.linalg.norm((back - start)[:, 0], axis=1) < _RETURNS
    if np.count_nonzero(followed) < _FEWEST:
        return None
    source, target = points[followed], f32(moved[followed, 0])
    motion, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.LMEDS)
    if motion is None or not np.isfinite(motion).all():
        return None
    growth, turn = float(np.hypot(motion[0, 0], motion[1, 0])), float(np.arctan2(motion[1, 0], motion[0, 0]))
    if not 1 / _MOST_GROWTH < growth < _MOST_GROWTH or abs(turn) > _MOST_TURN:
        return None
    apart = np.linalg.norm(source @ motion[:, :2].T + motion[:, 2] - target, axis=1)
    agreeing = int(np.count_nonzero(apart < _AGREES))
    return (np.asarray(motion, np.float64), agreeing / len(points)) if agreeing >= _FEWEST else None
