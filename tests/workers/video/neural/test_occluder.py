"""Hands before real faces, on a stand-in segmenter that goes by colour, and segmenters that lie."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from structlog.testing import capture_logs

from schemas.errors import ModelRefused
from tests.workers.video.neural import standins
from tests.workers.video.neural.test_codeformer import graph as codeformer_graph
from tests.workers.video.scenes import FRAME_US, Fit
from workers.models.manifest import CODEFORMER, SEGMENTER
from workers.models.runtime import Network, Runtime
from workers.video.engine import FaceOutcome, FaceResult, FaceSettings, Frame
from workers.video.faces import TrackMemory
from workers.video.measure import LEAK_SSIM, leak_ssim
from workers.video.neural import align, contracts
from workers.video.neural.codeformer import load_codeformer
from workers.video.neural.engine import NeuralFaceEngine, load_neural_face
from workers.video.neural.occluder import Occluder, load_occluder, picture_of
from workers.video.neural.paste import NeuralPatch, Paster
from workers.video.occlusion import BODY_SKIN, CLOTHES, FACE_SKIN, FACE_ZONE, MOST_OPEN
from workers.video.pixels import Float, f32
from workers.video.stages import Enhancer

GREEN = (0, 220, 0)
QUIET = 18
"""Frames without a hand, so that the face is known to be one."""


def store(**more: bytes) -> standins.Folder:
    return standins.folder(**{SEGMENTER: standins.segmenter_graph(), **more})


def engine_with(enhancer: Enhancer[NeuralPatch] | None) -> NeuralFaceEngine:
    return load_neural_face(store(), Runtime("cpu"), enhancer=enhancer)


def play(engine: NeuralFaceEngine, portrait: Frame, frames: list[Frame], *, rung: int = 0) -> list[Frame]:
    """Return what a session shows of `frames`; every one is swapped."""
    session = engine.open(FaceSettings(), [engine.enrol(portrait)])
    session.tuning.rung = rung
    results = [engine.process([(session, frame, i * FRAME_US)])[0] for i, frame in enumerate(frames)]
    assert {result.outcome for result in results} == {FaceOutcome.SWAPPED}
    return [result.frame for result in results]


@pytest.fixture(scope="module")
def neural() -> NeuralFaceEngine:
    return engine_with(None)


@pytest.fixture(scope="module")
def covered(neural: NeuralFaceEngine, clip: list[Frame], portrait: Frame) -> list[Frame]:
    """Return the first 40 frames of the clip, swapped whole."""
    return play(neural, portrait, clip[:40])


def with_hand(frames: list[Frame], fit: Fit) -> tuple[list[Frame], list[NDArray[np.bool_]]]:
    """Return the frames with a hand coming from the left up to the mouth, and where it is: palm and fingers."""
    shown, places = [], []
    mouth = fit(frames[QUIET])[13, :2]
    for i, frame in enumerate(frames):
        place = np.zeros(frame.shape[:2], np.uint8)
        tip = mouth - [max(200 - 10 * (i - QUIET), 0), 0]
        if i >= QUIET:
            cv2.ellipse(place, (int(tip[0]) - 90, int(tip[1]) + 20), (60, 50), 0, 0, 360, 1, -1)
            for finger in range(4):
                end = (int(tip[0]), int(tip[1]) - 10 + 18 * finger)
                cv2.line(place, (int(tip[0]) - 90, int(tip[1]) + 16 * finger), end, 1, 15)
        picture = frame.copy()
        picture[place > 0] = GREEN
        shown.append(picture)
        places.append(place > 0)
    return shown, places


class Scripted(Network):
    """A segmenter that says what it is told to, (256, 256) of classes, by the number of the frame."""

    def __init__(self, say: Callable[[int], NDArray[np.int64]]) -> None:
        self.say, self.runs = say, 0
        self.inputs = Runtime("cpu").open(standins.segmenter_graph(), contracts.SEGMENTER, label="stand-in").inputs

    def run(self, feeds: Any) -> list[NDArray[Any]]:  # noqa: ARG002 - it looks at nothing
        scores = np.zeros((1, 256, 256, 6), np.float32)
        np.put_along_axis(scores, self.say(self.runs)[None, ..., None], 20.0, axis=3)
        self.runs += 1
        return [scores]


def face(*, below: int = 256) -> NDArray[np.int64]:
    """Return a face, and from row `below` on skin of the body."""
    said = np.full((256, 256), FACE_SKIN)
    said[below:] = BODY_SKIN
    return said


def raw_share(before: Frame, after: Frame, covered: Frame, detected: Float) -> float:
    """Return the share of the face that `after` shows as the frame `before`, and the whole swap `covered` does not.

    `detected`: the face's keypoints (5, 2) px.
    """
    to_crop = align.similarity(detected, align.template(128))
    assert to_crop is not None
    raw, shown, whole = (align.warp(picture, to_crop, 128).astype(np.int16) for picture in (before, after, covered))
    bared = (np.abs(whole - raw).max(axis=2) > 12) & (np.abs(shown - raw).max(axis=2) <= 4)
    return float(bared[FACE_ZONE].mean())


def test_a_hand_before_a_real_face_stays_before_its_swap(
    neural: NeuralFaceEngine, clip: list[Frame], portrait: Frame, fit: Fit
) -> None:
    frames, places = with_hand(clip[: QUIET + 30], fit)
    plain = play(neural, portrait, frames)
    kept = play(engine_with(load_occluder(store(), Runtime("cpu"))), portrait, frames)
    for i in range(QUIET + 12, len(frames)):
        inside = cv2.erode(places[i].astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
        painted_over = inside & (np.abs(plain[i].astype(np.int16) - GREEN).max(axis=2) > 30)
        assert painted_over.sum() > 1000
        green = np.abs(kept[i].astype(np.int16) - GREEN).max(axis=2) < 8
        assert green[painted_over].mean() > 0.95
        away = cv2.dilate(places[i].astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        assert (kept[i][away] == plain[i][away]).all()


def test_a_face_with_nothing_before_it_is_swapped_as_without(
    clip: list[Frame], portrait: Frame, covered: list[Frame]
) -> None:
    kept = play(engine_with(load_occluder(store(), Runtime("cpu"))), portrait, clip[:25])
    assert all((one == other).all() for one, other in zip(kept, covered, strict=False))


@pytest.mark.parametrize(
    "lie",
    [
        lambda _: face(below=0),
        lambda _: face(below=160),
        lambda frame: face(below=0 if frame % 20 == 19 else 256),
        lambda frame: face(below=0) if frame >= QUIET else face(),
    ],
    ids=["all is hand", "the chin is neck", "a flash", "all of a sudden"],
)
def test_lies_that_would_bare_the_face_change_nothing(
    clip: list[Frame], portrait: Frame, covered: list[Frame], lie: Callable[[int], NDArray[np.int64]]
) -> None:
    kept = play(engine_with(Occluder(Scripted(lie))), portrait, clip[: len(covered)])
    assert all((one == other).all() for one, other in zip(kept, covered, strict=True))


@pytest.mark.parametrize("below", [130, 140, 150, 170])
def test_the_worst_lie_bares_no_more_than_the_bound(
    clip: list[Frame], portrait: Frame, covered: list[Frame], below: int
) -> None:
    """An honest segmenter that suddenly takes the lower face, from this row on, for a hand."""
    engine = engine_with(Occluder(Scripted(lambda frame: face(below=below if frame >= QUIET else 256))))
    frames = clip[: QUIET + 6]
    for before, after, whole in zip(frames, play(engine, portrait, frames), covered, strict=False):
        (detected,) = engine._detector.detect(before)
        assert raw_share(before, after, whole, detected.keypoints) <= MOST_OPEN


@pytest.mark.parametrize("side", ["below", "above", "left", "right"])
def test_as_much_as_may_be_open_is_no_leak(
    clip: list[Frame], swapped: list[FaceResult], neural: NeuralFaceEngine, fit: Fit, side: str
) -> None:
    """By the measure of the demo and the tests, on real swaps with that much of the face laid bare."""
    rows, columns = np.mgrid[:128, :128]
    away = {"below": -rows, "above": rows, "left": columns, "right": -columns}[side]
    bare = (away <= np.quantile(away[FACE_ZONE], MOST_OPEN)).astype(np.uint8)
    for before, result in list(zip(clip, swapped, strict=True))[5::15]:
        (detected,) = neural._detector.detect(before)
        to_crop = align.similarity(detected.keypoints, align.template(128))
        assert to_crop is not None
        height, width = before.shape[:2]
        shown = cv2.warpAffine(bare, align.inverse(to_crop), (width, height), flags=cv2.INTER_NEAREST) > 0
        after = np.where(shown[..., None], before, result.frame)
        assert leak_ssim(before, after, fit(before)) < LEAK_SSIM


def test_over_budget_it_rests_and_the_swap_covers_all(clip: list[Frame], portrait: Frame, fit: Fit) -> None:
    frames, _ = with_hand(clip[: QUIET + 15], fit)
    segmenter = Scripted(lambda _: face())
    kept = play(engine_with(Occluder(segmenter)), portrait, frames, rung=1)
    whole = play(engine_with(None), portrait, frames, rung=1)
    assert segmenter.runs == 0
    assert all((one == other).all() for one, other in zip(kept, whole, strict=True))


def test_scores_that_are_none_open_nothing(clip: list[Frame], portrait: Frame, covered: list[Frame]) -> None:
    nothing = standins.segmenter_graph(factor=float("nan"))
    broken = Runtime("cpu").open(nothing, contracts.SEGMENTER, label="stand-in")
    with capture_logs() as logs:
        kept = play(engine_with(Occluder(broken)), portrait, clip[:4])
    assert all((one == other).all() for one, other in zip(kept, covered, strict=False))
    assert [line["event"] for line in logs] == ["segmenter_gave_no_scores"] * 4


def test_after_a_frame_without_scores_nothing_is_open(portrait: Frame) -> None:
    class Failing(Scripted):
        def run(self, feeds: Any) -> list[NDArray[Any]]:
            (scores,) = super().run(feeds)
            return [scores * np.nan if self.runs == 3 else scores]

    points = f32(align.template(128) * 1.5 + [60, 50])
    to_crop = align.similarity(points, align.template(128))
    assert to_crop is not None
    said = np.where(np.arange(256)[:, None] < 160, face(), CLOTHES)
    occluder, memory, found = Occluder(Failing(lambda _: said)), TrackMemory(), []
    for _ in range(5):
        patch = NeuralPatch(portrait, points, portrait[:128, :128], to_crop.copy(), memory, Paster())
        found.append(occluder.enhance([patch])[0].opened is not None)
    assert found == [False, True, False, False, True]


class Overturned(Enhancer[NeuralPatch]):
    """An enhancer that takes one patch at a time only."""

    def enhance(self, patches: Sequence[NeuralPatch]) -> list[NeuralPatch]:
        (patch,) = patches
        return [patch]


def test_a_batch_that_is_run_again_does_not_make_a_frame_its_own_past(portrait: Frame) -> None:
    """A region must be there in two frames: here it is in one, seen in a batch that fails and then alone."""
    points = f32(align.template(128) * 1.5 + [60, 50])
    to_crop = align.similarity(points, align.template(128))
    assert to_crop is not None
    pixels, memories = np.zeros((128, 128, 3), np.uint8), (TrackMemory(), TrackMemory())

    def patches() -> list[NeuralPatch]:
        return [NeuralPatch(portrait, points, pixels, to_crop.copy(), memory, Paster()) for memory in memories]

    segmenter = Scripted(lambda _: np.where(np.arange(256)[:, None] < 160, face(), CLOTHES))
    occluder = Occluder(segmenter, Overturned())
    first = patches()
    with pytest.raises(ValueError, match="too many values"):
        occluder.enhance(first)
    assert [occluder.enhance([patch])[0].opened for patch in first] == [None, None]
    assert segmenter.runs == 2
    assert all(occluder.enhance([patch])[0].opened is not None for patch in patches())


def test_after_a_frame_that_could_not_be_looked_at_nothing_is_open(portrait: Frame) -> None:
    points = f32(align.template(128) * 1.5 + [60, 50])
    to_crop = align.similarity(points, align.template(128))
    assert to_crop is not None

    def say(run: int) -> NDArray[np.int64]:
        if run == 2:
            segmenter.runs += 1
            raise ModelRefused("out of memory")
        return np.where(np.arange(256)[:, None] < 160, face(), CLOTHES)

    segmenter = Scripted(say)
    occluder, memory, found = Occluder(segmenter), TrackMemory(), []
    for number in range(5):
        patch = NeuralPatch(portrait, points, portrait[:128, :128], to_crop.copy(), memory, Paster())
        if number == 2:
            with pytest.raises(ModelRefused):
                occluder.enhance([patch])
        else:
            found.append(occluder.enhance([patch])[0].opened is not None)
    assert found == [False, True, False, True]


def test_an_enhancer_that_follows_leaves_the_hand_as_it_is(clip: list[Frame], portrait: Frame, fit: Fit) -> None:
    frames, places = with_hand(clip[: QUIET + 25], fit)
    models = store(**{CODEFORMER: codeformer_graph()})
    brighter = load_codeformer(models, Runtime("cpu"), fidelity=0.0, every=1)
    plain = play(engine_with(brighter), portrait, frames)[-1]
    kept = play(engine_with(load_occluder(models, Runtime("cpu"), brighter)), portrait, frames)[-1]
    inside = cv2.erode(places[-1].astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    painted_over = inside & (np.abs(plain.astype(np.int16) - GREEN).max(axis=2) > 30)
    assert (np.abs(kept.astype(np.int16) - GREEN).max(axis=2) < 8)[painted_over].mean() > 0.95
    away = cv2.dilate(places[-1].astype(np.uint8), np.ones((41, 41), np.uint8)) == 0
    assert (np.abs(kept.astype(np.int16) - plain).max(axis=2)[away] > 12).mean() < 0.01


def test_what_a_patch_leaves_open_moves_with_it_into_another_alignment() -> None:
    points = f32(align.template(128) * 1.5 + [60, 50])
    to_crop, ffhq = (align.similarity(points, to) for to in (align.template(128), align.ffhq_template()))
    assert to_crop is not None
    assert ffhq is not None
    frame: Frame = np.full((320, 320, 3), 100, np.uint8)
    opened = np.zeros((128, 128), np.uint8)
    opened[80:120, 40:70] = 255
    white = np.full((128, 128, 3), 255, np.uint8)
    patch = NeuralPatch(frame, points, white, to_crop, TrackMemory(), Paster(), opened=opened)
    shown = []
    for made in (patch, patch.replaced(np.full((512, 512, 3), 255, np.uint8), ffhq)):
        canvas = frame.copy()
        made.paste(canvas)
        shown.append(align.warp(canvas, to_crop, 128)[..., 0])
    for picture in shown:
        assert (picture[84:116, 44:66] == 100).all()
        assert (picture[40:74, 40:90] == 255).all()


def test_the_segmenter_sees_twice_the_crop_in_rgb() -> None:
    frame: Frame = np.zeros((400, 400, 3), np.uint8)
    frame[:, 200:] = (255, 0, 0)  # blue
    picture = picture_of(frame, np.array([[1.0, 0, -136], [0, 1, -136]]))  # px 200 of the frame is 64 of the crop
    assert picture.shape == (1, 256, 256, 3)
    assert picture.dtype == np.float32
    assert picture[0, 128, 127].tolist() == [0, 0, 0]
    assert picture[0, 128, 128].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (standins.segmenter_graph(side=144), "axis 1 of length 256 expected, 144 found"),
        (standins.segmenter_graph(factor=float("nan")), "NaN"),
        (standins.segmenter_graph(factor=0.0), "everywhere"),
    ],
    ids=["size", "nan", "flat"],
)
def test_another_graph_is_refused_by_what_is_wrong_with_it(bad: bytes, said: str) -> None:
    with pytest.raises(ModelRefused, match=said):
        load_occluder(store(**{SEGMENTER: bad}), Runtime("cpu"))
