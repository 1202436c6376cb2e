"""The pipeline with parts that fail: every stage may, and no frame gets out raw, nor does a neighbour suffer."""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.workers.video.scenes import difference
from workers.video.detail import DetailMatcher
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import FaceOutcome, FaceSettings, Frame, OnMiss
from workers.video.faces import Detection, Scene
from workers.video.mesh import FaceMesh
from workers.video.mesh_swap import MeshSwapper
from workers.video.patches import MeshPatch
from workers.video.source import SourceFace, prepare
from workers.video.stages import SwapRequest
from workers.video.swap_pipeline import SwapPipeline, SwapSession
from workers.video.template import decode
from workers.video.tracker import MeshTracker

Pipeline = SwapPipeline[SourceFace, MeshPatch]


class FailingDetector(SecondOpinionDetector):
    def detect(self, frame: Frame) -> list[Detection]:
        raise MemoryError(frame.shape)


class FailingTracker(MeshTracker):
    def follow(self, frame: Frame, detections: Sequence[Detection] | None, seconds: float) -> Scene:
        super().follow(frame, detections, seconds)
        raise RuntimeError("tracker")


class FailingSwapper(MeshSwapper):
    def swap(self, requests: Sequence[SwapRequest[SourceFace]]) -> list[MeshPatch | None]:
        raise RuntimeError(len(requests))


class ForgetfulSwapper(MeshSwapper):
    def swap(self, requests: Sequence[SwapRequest[SourceFace]]) -> list[MeshPatch | None]:
        return super().swap(requests)[1:]


class DecliningSwapper(MeshSwapper):
    def swap(self, requests: Sequence[SwapRequest[SourceFace]]) -> list[MeshPatch | None]:
        return [None for _ in requests]


class FailingEnhancer(DetailMatcher):
    def enhance(self, patches: Sequence[MeshPatch]) -> list[MeshPatch]:
        raise RuntimeError(len(patches))


class UnpasteableEnhancer(DetailMatcher):
    def enhance(self, patches: Sequence[MeshPatch]) -> list[MeshPatch]:
        for patch in patches:
            patch.pixels = patch.pixels[:3]
        return list(patches)


@pytest.fixture(scope="module")
def detector() -> SecondOpinionDetector:
    return SecondOpinionDetector()


@pytest.fixture(scope="module")
def mesh() -> FaceMesh:
    return FaceMesh()


@pytest.fixture(scope="module")
def source(template: bytes) -> SourceFace:
    return prepare(decode(template))


def session(mesh: FaceMesh, source: SourceFace, on_miss: OnMiss = OnMiss.BLUR) -> SwapSession[SourceFace]:
    return SwapSession(FaceSettings(on_miss=on_miss), [source], MeshTracker(mesh, 1))


@pytest.mark.parametrize("on_miss", list(OnMiss))
@pytest.mark.parametrize("stage", ["detector", "tracker", "swapper", "forgetful", "enhancer", "paste"])
def test_an_error_in_any_stage_covers_the_frame(
    detector: SecondOpinionDetector,
    mesh: FaceMesh,
    source: SourceFace,
    clip: list[Frame],
    stage: str,
    on_miss: OnMiss,
) -> None:
    swappers = {"swapper": FailingSwapper(), "forgetful": ForgetfulSwapper()}
    enhancers = {"enhancer": FailingEnhancer(), "paste": UnpasteableEnhancer()}
    pipeline: Pipeline = SwapPipeline(
        FailingDetector() if stage == "detector" else detector,
        swappers.get(stage, MeshSwapper()),
        enhancers.get(stage, DetailMatcher()),
    )
    one = session(mesh, source, on_miss)
    if stage == "tracker":
        one.tracker = FailingTracker(mesh, 1)
    for i in range(3):
        (result,) = pipeline.process([(one, clip[i], i * 33_367)])
        assert result.outcome is FaceOutcome.COVERED
        assert result.faces == 0
        assert difference(result.frame, clip[i]) > 10
    assert one.errors == 3


def test_a_fault_stays_with_its_frame(
    detector: SecondOpinionDetector, mesh: FaceMesh, source: SourceFace, clip: list[Frame]
) -> None:
    """One of three sessions has an identity that cannot be drawn; the batch fails, the other two are still swapped."""
    pipeline: Pipeline = SwapPipeline(detector, MeshSwapper(), DetailMatcher())
    sessions = [session(mesh, source), session(mesh, SourceFace(())), session(mesh, source)]
    results = pipeline.process([(one, clip[0], 0) for one in sessions])
    assert [result.outcome for result in results] == [
        *(FaceOutcome.SWAPPED, FaceOutcome.COVERED, FaceOutcome.SWAPPED),
    ]


def test_a_face_the_swapper_declines_is_a_miss(
    detector: SecondOpinionDetector, mesh: FaceMesh, source: SourceFace, clip: list[Frame]
) -> None:
    pipeline: Pipeline = SwapPipeline(detector, DecliningSwapper(), DetailMatcher())
    (result,) = pipeline.process([(session(mesh, source), clip[0], 0)])
    assert result.outcome is FaceOutcome.COVERED
    assert result.faces == 0


def test_after_an_error_the_next_frame_is_swapped_again(
    detector: SecondOpinionDetector, mesh: FaceMesh, source: SourceFace, clip: list[Frame]
) -> None:
    one = session(mesh, source)
    broken: Pipeline = SwapPipeline(detector, FailingSwapper(), DetailMatcher())
    whole: Pipeline = SwapPipeline(detector, MeshSwapper(), DetailMatcher())
    assert broken.process([(one, clip[0], 0)])[0].outcome is FaceOutcome.COVERED
    assert whole.process([(one, clip[1], 33_367)])[0].outcome is FaceOutcome.SWAPPED


def test_without_an_enhancer_a_frame_is_still_swapped(
    detector: SecondOpinionDetector, mesh: FaceMesh, source: SourceFace, clip: list[Frame]
) -> None:
    pipeline: Pipeline = SwapPipeline(detector, MeshSwapper())
    (result,) = pipeline.process([(session(mesh, source), clip[0], 0)])
    assert result.outcome is FaceOutcome.SWAPPED
    assert "enhance" not in result.stages_us


def test_stage_times_come_from_the_clock(
    detector: SecondOpinionDetector, mesh: FaceMesh, source: SourceFace, clip: list[Frame]
) -> None:
    ticks = iter(range(0, 1_000_000_000, 2_000_000))  # every look at the clock is 2 ms later
    pipeline: Pipeline = SwapPipeline(detector, MeshSwapper(), DetailMatcher(), clock_ns=lambda: next(ticks))
    jobs = [(session(mesh, source), clip[0], 0), (session(mesh, source), clip[1], 0)]
    for result in pipeline.process(jobs):
        assert dict(result.stages_us) == {"detect": 2000, "track": 2000, "swap": 1000, "enhance": 1000, "paste": 2000}


def test_covering_that_fails_too_shows_black(
    detector: SecondOpinionDetector,
    mesh: FaceMesh,
    source: SourceFace,
    clip: list[Frame],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(frame: Frame) -> Frame:
        raise MemoryError(frame.shape)

    monkeypatch.setattr("workers.video.cover.covered", fail)
    pipeline: Pipeline = SwapPipeline(detector, FailingSwapper())
    (result,) = pipeline.process([(session(mesh, source), clip[0], 0)])
    assert result.outcome is FaceOutcome.COVERED
    np.testing.assert_array_equal(result.frame, np.zeros_like(clip[0]))
