"""The swap pipeline that every engine shares: detect → track → swap the largest → enhance → emit.

Engines differ in the parts they inject. The faces of all sessions in a call are swapped and enhanced as one batch.
Whatever goes wrong with a frame, its viewer sees a covered frame, never the raw one:

| the frame                            | its viewer sees                                                           |
|--------------------------------------|---------------------------------------------------------------------------|
| a face that can be swapped           | it swapped; hidden faces covered; bystanders as the settings say          |
| a face whose identity is unusable    | it covered; the others as they would be without it                        |
| faces, but the session wears nothing | every face covered, bystanders too                                        |
| no face that can be swapped          | `on_miss`: blurred whole (default), frozen, blank, or passed through      |
|                                      | with bystanders as the settings say                                       |
| an error in any stage                | `on_miss`, with blur in place of pass-through; black if even that fails   |
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from traceback import format_exception
from typing import Generic, TypeVar

import numpy as np
import structlog

from schemas.errors import InputRejected
from schemas.media import Place
from workers.video import cover, neighbours
from workers.video.cadence import Cadence
from workers.video.cuts import SceneCuts
from workers.video.engine import Bystanders, FaceOutcome, FaceResult, FaceSettings, FaceTuning, Frame, OnMiss
from workers.video.face_map import FaceMap
from workers.video.faces import Box, Scene, TrackedFace
from workers.video.stages import Detector, Enhancer, IdentityT, PatchT, Swapper, SwapRequest, Tracker

LONGEST_GAP_US = 500_000  # after half a second without a frame, places and speeds mean nothing
_NOMINAL_SECONDS = 1 / 30
_LOG_EVERY = 300  # errors of one session: the first, then one of this many

ItemT = TypeVar("ItemT")
MadeT = TypeVar("MadeT")

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class SwapSession(Generic[IdentityT]):
    """What one session carries from frame to frame."""

    settings: FaceSettings
    worn: Sequence[IdentityT | None]
    """One identity for each followed face; None for one that is not usable: whoever should wear it is covered."""
    tracker: Tracker
    cuts: SceneCuts | None = None  # for trackers that do not notice a cut by themselves
    tuning: FaceTuning = field(default_factory=FaceTuning)
    cadence: Cadence = field(default_factory=Cadence)
    shape: tuple[int, ...] | None = None
    pts_us: int | None = None
    last_swapped: Frame | None = None  # kept only for `OnMiss.FREEZE`
    errors: int = 0
    map: FaceMap = field(init=False)

    def __post_init__(self) -> None:
        """Begin without anybody in sight."""
        differ = any(identity is not self.worn[0] for identity in self.worn)
        self.map = FaceMap(len(self.worn), contested=differ or len(self.worn) < self.settings.max_faces)

    @property
    def bare(self) -> bool:
        """Whether nobody can be swapped."""
        return all(identity is None for identity in self.worn)

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the wearer of each identity was last."""
        return self.map.places

    def remember(self, places: Sequence[Place]) -> None:
        """Go on from the places that an earlier session of these people knew."""
        self.map = self.map.continued(places)


@dataclass(slots=True, eq=False)
class _Work(Generic[IdentityT, PatchT]):
    """One frame on its way through the stages."""

    session: SwapSession[IdentityT]
    frame: Frame
    scene: Scene = field(default_factory=Scene)
    patches: list[tuple[Box, PatchT]] = field(default_factory=list)
    """Each with the box of the face it is for."""
    undressed: list[Box] = field(default_factory=list)
    """Faces whose identity is not usable, or not known yet: covered whatever the settings."""
    detector_ran: bool = False
    error: Exception | None = None
    stages_us: dict[str, int] = field(default_factory=dict)


class SwapPipeline(Generic[IdentityT, PatchT]):
    """Frames in, safe frames out."""

    def __init__(
        self,
        detector: Detector,
        swapper: Swapper[IdentityT, PatchT],
        enhancer: Enhancer[PatchT] | None = None,
        clock_ns: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """Take the stages; `clock_ns` times them."""
        self._detector = detector
        self._swapper = swapper
        self._enhancer = enhancer
        self._clock_ns = clock_ns

    def process(self, jobs: Sequence[tuple[SwapSession[IdentityT], Frame, int]]) -> list[FaceResult]:
        """Process (session, frame, pts in µs) jobs; results in order. Input frames are not modified.

        Raises `InputRejected`, before anything is processed, when an array is not a picture.
        """
        for _, frame, _ in jobs:
            _must_be_picture(frame)
        works = [self._look(session, frame, pts_us) for session, frame, pts_us in jobs]
        self._swap(works)
        return [self._emit(work) for work in works]

    def _look(self, session: SwapSession[IdentityT], frame: Frame, pts_us: int) -> _Work[IdentityT, PatchT]:
        """Detect and track."""
        work: _Work[IdentityT, PatchT] = _Work(session, np.ascontiguousarray(frame))
        seconds = _advance(session, frame.shape, pts_us)
        try:
            if session.cuts is not None and session.cuts.cut(work.frame):
                _start_over(session)
            detections = None
            if session.cadence.due():
                began = self._clock_ns()
                work.detector_ran = True
                detections = self._detector.detect(work.frame)
                self._note(work, "detect", began)
            began = self._clock_ns()
            work.scene = session.tracker.follow(work.frame, detections, seconds)
            height, width = frame.shape[:2]
            session.map = session.map.after(work.scene.faces, width=width, height=height)
            self._note(work, "track", began)
        except Exception as error:  # noqa: BLE001  (fail closed: whatever went wrong, the frame is covered)
            _fail(work, error)
            session.tracker.reset()
        session.cadence = session.cadence.after(detected=work.detector_ran, confidence=work.scene.confidence)
        return work

    def _swap(self, works: Sequence[_Work[IdentityT, PatchT]]) -> None:
        """Swap and enhance the faces of all `works` as one batch."""
        requests, owners = [], []
        for work in works:
            if work.error is None and not work.session.bare:
                for face, identity in _dressed(work):
                    requests.append(SwapRequest(work.frame, face, identity, work.session.tuning))
                    owners.append(work)
        made = self._run_batch("swap", self._swapper.swap, requests, owners)
        patches: list[PatchT] = []
        boxes: list[Box] = []
        patch_owners: list[_Work[IdentityT, PatchT]] = []
        for request, owner, patch in zip(requests, owners, made, strict=True):
            if patch is not None:
                patches.append(patch)
                boxes.append(request.face.box)
                patch_owners.append(owner)
            else:
                owner.scene.faces.remove(request.face)
                owner.scene.hidden.append(request.face.box)
        better: Sequence[PatchT | None] = patches
        if self._enhancer is not None:
            better = self._run_batch("enhance", self._enhancer.enhance, patches, patch_owners)
        for patch, box, owner in zip(better, boxes, patch_owners, strict=True):
            if patch is not None:
                owner.patches.append((box, patch))

    def _run_batch(
        self,
        stage: str,
        run: Callable[[Sequence[ItemT]], Sequence[MadeT | None]],
        items: Sequence[ItemT],
        owners: Sequence[_Work[IdentityT, PatchT]],
    ) -> Sequence[MadeT | None]:
        """Run `items` as one batch; should it fail, one by one, so that a fault stays with the frame it belongs to."""
        if not items:
            return []
        began = self._clock_ns()
        try:
            made = list(run(items))
            if len(made) != len(items):
                raise RuntimeError(f"stage {stage} made {len(made)} of {len(items)}")  # noqa: TRY301
        except Exception:  # noqa: BLE001  (each item is tried alone below, and its own error kept)
            made = []
            for item, owner in zip(items, owners, strict=True):
                try:
                    (alone,) = run([item])
                except Exception as error:  # noqa: BLE001  (fail closed)
                    _fail(owner, error)
                    alone = None
                made.append(alone)
        share = (self._clock_ns() - began) // (1000 * len(items))
        for owner in owners:
            owner.stages_us[stage] = owner.stages_us.get(stage, 0) + share
        return made

    def _emit(self, work: _Work[IdentityT, PatchT]) -> FaceResult:
        """Turn a finished work into the frame its viewer sees."""
        began = self._clock_ns()
        try:
            frame, outcome = _composed(work) if work.error is None else _missed(work)
        except Exception as error:  # noqa: BLE001  (fail closed)
            _fail(work, error)
            frame, outcome = cover.blank(work.frame), FaceOutcome.COVERED
        self._note(work, "paste", began)
        swapped = outcome is FaceOutcome.SWAPPED
        if swapped and work.session.settings.on_miss is OnMiss.FREEZE:
            work.session.last_swapped = frame.copy()
        return FaceResult(
            frame=frame,
            outcome=outcome,
            faces=len(work.patches) if swapped else 0,
            detector_ran=work.detector_ran,
            confidence_pm=round(1000 * work.scene.confidence),
            stages_us=work.stages_us,
        )

    def _note(self, work: _Work[IdentityT, PatchT], stage: str, began: int) -> None:
        work.stages_us[stage] = (self._clock_ns() - began) // 1000


def each_once(worn: Sequence[bytes | None], prepare: Callable[[bytes], IdentityT]) -> list[IdentityT | None]:
    """Return what `prepare` makes of each template; of equal ones, the same object."""
    made = {data: prepare(data) for data in set(worn) if data is not None}
    return [None if data is None else made[data] for data in worn]


def _dressed(work: _Work[IdentityT, PatchT]) -> list[tuple[TrackedFace, IdentityT]]:
    """Return the faces to swap with what they wear; the others leave the scene's faces.

    A face for which there is no identity is a bystander; one whose identity is not usable or not known yet is covered.
    """
    session, scene = work.session, work.scene
    dressed = []
    for face in scene.faces:
        slot = session.map.worn.get(face.track)
        identity = None if slot is None else session.worn[slot]
        if slot is None and face.track not in session.map.waiting:
            scene.bystanders.append(face.box)
        elif identity is None:
            work.undressed.append(face.box)
        else:
            dressed.append((face, identity))
    scene.faces[:] = [face for face, _ in dressed]
    return dressed


def _composed(work: _Work[IdentityT, PatchT]) -> tuple[Frame, FaceOutcome]:
    """Return the frame with its faces swapped and everyone else covered as the settings say."""
    scene, settings = work.scene, work.session.settings
    bare = work.session.bare
    if not work.patches and not (bare and (scene.faces or scene.hidden or scene.bystanders)):
        return _missed(work)
    frame = work.frame.copy()
    covers = [*scene.hidden, *work.undressed]
    if bare:
        covers += [face.box for face in scene.faces]
    if bare or settings.bystanders is Bystanders.BLUR:
        covers += scene.bystanders
    for box in covers:
        cover.cover_region(frame, box)
    for number, (own, patch) in enumerate(work.patches):
        others = [box for at, (box, _) in enumerate(work.patches) if at != number]
        left = [part for box in covers for part in neighbours.left_to_covered(own, box)]
        left += [part for box in others for part in neighbours.left_to_swapped(own, box)]
        patch.paste(frame, left)
    return frame, FaceOutcome.COVERED if bare else FaceOutcome.SWAPPED


def _missed(work: _Work[IdentityT, PatchT]) -> tuple[Frame, FaceOutcome]:
    """Return what is shown of a frame without a usable face, or with an error."""
    session, frame = work.session, work.frame
    match session.settings.on_miss:
        case OnMiss.PASSTHROUGH if work.error is None:
            shown = frame.copy()
            # Whose identity a hidden face should wear is not known; where one is unusable, it may be that.
            covers = [*work.undressed, *(work.scene.hidden if None in session.worn else [])]
            covers += work.scene.bystanders if session.settings.bystanders is Bystanders.BLUR else []
            for box in covers:
                cover.cover_region(shown, box)
            return shown, FaceOutcome.PASSED
        case OnMiss.FREEZE if session.last_swapped is not None and session.last_swapped.shape == frame.shape:
            return session.last_swapped.copy(), FaceOutcome.COVERED
        case OnMiss.BLANK:
            return cover.blank(frame), FaceOutcome.COVERED
        case _:
            return cover.covered(frame), FaceOutcome.COVERED


def _advance(session: SwapSession[IdentityT], shape: tuple[int, ...], pts_us: int) -> float:
    """Return seconds since the session's last frame; start over where the picture changed size or time jumped."""
    gap_us = None if session.pts_us is None else pts_us - session.pts_us
    if shape != session.shape or gap_us is None or not 0 < gap_us <= LONGEST_GAP_US:
        _start_over(session)
        gap_us = None
    session.shape, session.pts_us = shape, pts_us
    return _NOMINAL_SECONDS if gap_us is None else gap_us / 1e6


def _start_over(session: SwapSession[IdentityT]) -> None:
    session.tracker.reset()
    session.cadence = Cadence()


def _fail(work: _Work[IdentityT, PatchT], error: Exception) -> None:
    work.error = error
    work.session.errors += 1
    if work.session.errors % _LOG_EVERY == 1:
        # Not as exc_info: some renderers print every local, and here those are pictures.
        trace = "".join(format_exception(error, limit=-3))
        _log.error("face_frame_covered_after_error", errors=work.session.errors, error=repr(error), trace=trace)


def _must_be_picture(frame: Frame) -> None:
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or 0 in frame.shape:
        raise InputRejected(f"a frame is 8-bit BGR of shape (H, W, 3), this one is {frame.dtype} {frame.shape}")
