"""The contract of every face engine: enrol once, open a session, process frames of several sessions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.media import Place

Frame = NDArray[np.uint8]  # (H, W, 3) BGR


class OnMiss(StrEnum):
    """What a viewer sees while there is no usable face: never the raw face, unless the session may pass it through."""

    BLUR = "blur"
    FREEZE = "freeze"
    BLANK = "blank"
    PASSTHROUGH = "passthrough"


class Bystanders(StrEnum):
    """What happens to detected faces beyond `max_faces`, and to those for which there is no identity."""

    BLUR = "blur"
    SHOW = "show"


class FaceOutcome(StrEnum):
    """What the engine did to a frame."""

    SWAPPED = "swapped"
    COVERED = "covered"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class FaceSettings:
    """What a session asks of the engine."""

    max_faces: int = 1
    on_miss: OnMiss = OnMiss.BLUR
    bystanders: Bystanders = Bystanders.BLUR


@dataclass(frozen=True, slots=True)
class FaceResult:
    """One processed frame, with what the metrics need."""

    frame: Frame
    outcome: FaceOutcome
    faces: int
    """Faces swapped in this frame."""
    detector_ran: bool
    confidence_pm: int
    """Lowest confidence of the tracked faces, per mille; 0 without a face."""
    stages_us: Mapping[str, int] = field(default_factory=dict)
    """Microseconds in each of `detect`, `track`, `swap`, `enhance`, `paste` that ran."""


@dataclass(slots=True)
class FaceTuning:
    """What may change from frame to frame; whoever drives the engine sets it before a frame."""

    rung: int = 0
    """Video rung in force: above 0 the session is over its budget, and what only embellishes is left out."""
    fidelity: float | None = None
    """0 … 1, how close an enhancer keeps to what it was given; None: as installed."""


class FaceSession(Protocol):
    """Per-session state (tracks, smoothing, statistics), made by `FaceEngine.open` and owned by one worker."""

    @property
    def tuning(self) -> FaceTuning:
        """What is in force for the next frame."""
        ...

    @property
    def places(self) -> tuple[Place, ...]:
        """Where the wearer of each identity was last."""
        ...

    def remember(self, places: Sequence[Place]) -> None:
        """Go on from the places that an earlier session of these people knew."""
        ...


class FaceEngine(Protocol):
    """Turns a portrait into a template, and frames into swapped frames. Not thread-safe: one thread drives it."""

    @property
    def name(self) -> str:
        """`embedded` or `neural`: templates of one engine mean nothing to another."""
        ...

    @property
    def batch(self) -> int:
        """Most frames that one call of `process` should be given; 1 where a batch costs what its frames cost."""
        ...

    def enrol(self, portrait: Frame) -> bytes:
        """Return the identity template of the one face in `portrait`.

        Raises `schemas.errors.EnrolmentRefused` when there is no usable face or more than one.
        """
        ...

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> FaceSession:
        """Start a session that wears these templates, one for each followed face; empty covers every face.

        None stands for an identity that is not usable: whoever should wear it is covered. Faces beyond them follow
        `bystanders`. Raises `schemas.errors.InputRejected` for bytes that are not a template of this engine.
        """
        ...

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        """Process (session, frame, pts in µs) jobs, results in order; a session appears at most once per call."""
        ...
