"""The embedded swapper: warp, mask, colour. One patch a face."""

from collections.abc import Sequence

from workers.video.colour import match_colour
from workers.video.mask import face_mask
from workers.video.patches import MeshPatch
from workers.video.roi import roi_of
from workers.video.source import SourceFace
from workers.video.stages import SwapRequest
from workers.video.warp import warp

_LEAST_COVERED = 0.5
"""Share of its outline that a worn face must show in. A fringe hides a quarter; only a mesh that is wrong, e.g. turned
inside out, shows in less than 0.64, and would uncover the performer."""


class MeshSwapper:
    """A swapper whose identity is a picture on a mesh. It keeps nothing between calls but what it notes in a track."""

    def swap(self, requests: Sequence[SwapRequest[SourceFace]]) -> list[MeshPatch | None]:
        """Return a patch for each request, in order; None where too little of the face is in view."""
        return [_swap_one(request) for request in requests]


def _swap_one(request: SwapRequest[SourceFace]) -> MeshPatch | None:
    landmarks, memory = request.face.landmarks, request.face.memory
    roi = roi_of(landmarks, request.frame)
    if roi is None:
        return None
    target = roi.cut(request.frame)
    warped = warp(request.identity, landmarks, roi)
    mask = face_mask(warped, landmarks, roi)
    if mask.covered < _LEAST_COVERED:
        return None
    pixels = match_colour(warped.pixels, target, mask, roi, memory)
    return MeshPatch(roi, target, pixels, mask, memory)
