"""A long session holds on to nothing."""

import sys

import pytest

from tests.workers.video.neural import standins
from tests.workers.video.scenes import FRAME_US
from workers.models.runtime import resident_bytes
from workers.video.engine import FaceOutcome, FaceSettings, Frame


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process's memory from /proc")
def test_two_thousand_frames_leave_memory_where_it_was(clip: list[Frame], portrait: Frame) -> None:
    engine = standins.neural_engine()
    session = engine.open(FaceSettings(), [engine.enrol(portrait)])
    frames = [*clip[:60], *clip[60:0:-1]]  # there and back, so that nothing jumps

    def play(first: int, count: int) -> int:
        for i in range(first, first + count):
            (result,) = engine.process([(session, frames[i % len(frames)], i * FRAME_US)])
            assert result.outcome is FaceOutcome.SWAPPED
        return resident_bytes() or 0

    warm = play(0, 300)
    assert play(300, 2000) - warm < 5 * 1024 * 1024
