"""Types and small steps that several video tests share."""

from collections.abc import Callable

import numpy as np

from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import FaceResult, Frame
from workers.video.pixels import Float
from workers.video.source import SourceFace
from workers.video.swap_pipeline import SwapSession

FRAME_US = 33_367  # the clip's 29.97 fps

Fit = Callable[[Frame], Float]
Session = SwapSession[SourceFace]


def play(engine: EmbeddedFaceEngine, session: Session, frames: list[Frame], first: int = 0) -> list[FaceResult]:
    """Process `frames` in order at the clip's rate, the first of them as number `first`."""
    return [engine.process([(session, frame, (first + i) * FRAME_US)])[0] for i, frame in enumerate(frames)]


def difference(one: Frame, other: Frame) -> float:
    """Return the mean absolute difference, in levels."""
    return float(np.abs(one.astype(np.int16) - other.astype(np.int16)).mean())
