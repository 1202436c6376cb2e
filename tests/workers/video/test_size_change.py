"""The output's size changes while a session runs, as the policy's ladder orders: nobody is covered for it, or shown."""

import itertools

import pytest

from tests.workers.video.scenes import FRAME_US
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import FaceOutcome, FaceSettings, Frame
from workers.video.task import fit

LADDER = (512, 384, 256, 384, 512, 256, 512)


@pytest.mark.parametrize("first", [0, 40, 80])
def test_a_frame_of_another_size_is_detected_and_swapped_at_once(
    engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame], first: int
) -> None:
    """Places of another size mean nothing; the face is found again on the very frame that changed."""
    session = engine.open(FaceSettings(), [template])
    number = itertools.count()
    for size in LADDER:
        for nth in range(3):
            n = next(number)
            frame = fit(clip[first + n], size)
            (result,) = engine.process([(session, frame, n * FRAME_US)])
            assert result.frame.shape == (size, size, 3)
            assert (result.outcome, result.faces) == (FaceOutcome.SWAPPED, 1), f"frame {nth} at {size}"
            if nth == 0:
                assert result.detector_ran
