"""What the embedded swapper makes of a face: a rectangle of new pixels and how opaque they are."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2

from workers.video.engine import Frame
from workers.video.faces import Box, TrackMemory
from workers.video.mask import FaceMask
from workers.video.pixels import u8
from workers.video.roi import Roi


@dataclass(slots=True, eq=False)
class MeshPatch:
    """A swapped face, not yet in its frame."""

    roi: Roi
    target: Frame  # (H, W, 3) BGR, the frame's own pixels
    pixels: Frame  # (H, W, 3) BGR
    mask: FaceMask
    memory: TrackMemory

    def paste(self, frame: Frame, covered: Sequence[Box] = ()) -> None:  # noqa: ARG002 - it draws the face's mesh alone
        """Blend into `frame` (modified), in which bystanders may have been covered since the patch was made."""
        alpha = cv2.merge([self.mask.alpha] * 3)
        below = self.roi.cut(frame)
        worn = cv2.multiply(self.pixels, alpha, scale=1 / 255)
        kept = cv2.multiply(below, cv2.bitwise_not(alpha), scale=1 / 255)
        self.roi.put(frame, u8(cv2.add(worn, kept)))
