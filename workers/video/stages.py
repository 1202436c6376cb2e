"""The parts an engine injects into the swap pipeline, as narrow as the pipeline needs them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from workers.video.engine import FaceTuning, Frame
from workers.video.faces import Box, Detection, Scene, TrackedFace

IdentityT = TypeVar("IdentityT")
PatchT = TypeVar("PatchT", bound="Patch")


class Detector(Protocol):
    """Finds faces in one picture; shared by all sessions."""

    def detect(self, frame: Frame) -> list[Detection]:
        """Return every face in `frame` (H, W, 3)."""
        ...


class Tracker(Protocol):
    """Follows the faces of one session."""

    def follow(self, frame: Frame, detections: Sequence[Detection] | None, seconds: float) -> Scene:
        """Return who is where in `frame`, `seconds` after the last; `detections` is None where the detector rested."""
        ...

    def reset(self) -> None:
        """Forget everyone."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SwapRequest(Generic[IdentityT]):
    """One face to swap."""

    frame: Frame  # (H, W, 3); not to be modified
    face: TrackedFace
    identity: IdentityT
    tuning: FaceTuning = field(default_factory=FaceTuning)


class Patch(Protocol):
    """A swapped face that knows its place."""

    def paste(self, frame: Frame, covered: Sequence[Box] = ()) -> None:
        """Blend into `frame` (H, W, 3), which is modified.

        `covered`: where others are, covered or swapped. A patch that carries their pixels must not paste them there.
        """
        ...


class Swapper(Protocol[IdentityT, PatchT]):
    """Makes new faces; a batch may span sessions."""

    def swap(self, requests: Sequence[SwapRequest[IdentityT]]) -> list[PatchT | None]:
        """Return a patch for each request, in order; None for a face that cannot be swapped."""
        ...


class Enhancer(Protocol[PatchT]):
    """Improves new faces before they are pasted."""

    def enhance(self, patches: Sequence[PatchT]) -> list[PatchT]:
        """Return the improved patches, in order."""
        ...
