"""The embedded face engine: a portrait on a mesh, on the CPU, from models that ship with Mirage."""

from collections.abc import Sequence

import cv2

from workers.video import portrait, template
from workers.video.detail import DetailMatcher
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import FaceResult, FaceSession, FaceSettings, Frame
from workers.video.mesh import FaceMesh
from workers.video.mesh_swap import MeshSwapper
from workers.video.patches import MeshPatch
from workers.video.source import SourceFace, prepare
from workers.video.swap_pipeline import SwapPipeline, SwapSession, each_once
from workers.video.tracker import MeshTracker


class EmbeddedFaceEngine:
    """A `FaceEngine`. Not thread-safe: one thread drives it."""

    def __init__(self) -> None:
        """Open the vendored models (about 0.2 s)."""
        cv2.setNumThreads(1)  # a worker has one core; OpenCV's own threads would take its neighbours'
        self._detector = SecondOpinionDetector()
        self._mesh = FaceMesh()
        self._pipeline: SwapPipeline[SourceFace, MeshPatch] = SwapPipeline(
            self._detector, MeshSwapper(), DetailMatcher()
        )

    @property
    def name(self) -> str:
        """Return `embedded`."""
        return "embedded"

    @property
    def batch(self) -> int:
        """Return 1: on one core, faces take turns."""
        return 1

    def enrol(self, portrait_picture: Frame) -> bytes:
        """Return the identity template of the one face in the portrait (H, W, 3) BGR. Raises `EnrolmentRefused`."""
        return template.encode(portrait.enrol(portrait_picture, self._detector, self._mesh))

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> SwapSession[SourceFace]:
        """See `FaceEngine.open`; `InputRejected` has the code `template_invalid`."""
        identities = each_once(worn, lambda data: prepare(template.decode(data)))
        return SwapSession(settings, identities, MeshTracker(self._mesh, settings.max_faces))

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        """Process (session, frame, pts in µs) jobs, results in order; a session appears at most once per call."""
        return self._pipeline.process([(_own(session), frame, pts_us) for session, frame, pts_us in jobs])


def _own(session: FaceSession) -> SwapSession[SourceFace]:
    if not isinstance(session, SwapSession):
        raise TypeError(f"not a session of this engine: {session!r}")
    return session
