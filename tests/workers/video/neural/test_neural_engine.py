"""The neural engine as a whole, on stand-ins: who is swapped, what is covered, what a batch shares, what is refused."""

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from schemas.errors import EnrolmentRefused, ModelRefused
from tests.workers.video.neural import standins
from tests.workers.video.scenes import FRAME_US, Fit
from workers.models import runtime
from workers.models.bound import Bound
from workers.models.manifest import SWAPPER, SWAPPER_FP32
from workers.models.providers import EXECUTION, Requested
from workers.models.runtime import Network, Runtime
from workers.video import cover
from workers.video.engine import Bystanders, FaceOutcome, FaceResult, FaceSettings, Frame, OnMiss
from workers.video.faces import Detection
from workers.video.measure import leak_ssim
from workers.video.neural import template as codec
from workers.video.neural.engine import NeuralFaceEngine, _swapper_network, load_neural_face
from workers.video.neural.inswapper import NeuralIdentity, SwapOptions
from workers.video.swap_pipeline import SwapSession

Session = SwapSession[NeuralIdentity]


@pytest.fixture(scope="module")
def neural() -> NeuralFaceEngine:
    return standins.neural_engine()


@pytest.fixture(scope="module")
def worn(neural: NeuralFaceEngine, portrait: Frame) -> bytes:
    return neural.enrol(portrait)


def play(engine: NeuralFaceEngine, session: Session, frames: list[Frame], first: int = 0) -> list[FaceResult]:
    return [engine.process([(session, frame, (first + i) * FRAME_US)])[0] for i, frame in enumerate(frames)]


def with_tint(blob: bytes, seed: int) -> bytes:
    """Return the template with a latent of another identity."""
    template = codec.decode(blob)
    latent = np.random.default_rng(seed).standard_normal(512).astype(np.float32)
    latent /= np.linalg.norm(latent)
    return codec.encode(codec.NeuralTemplate(template.embedding, latent, template.emap))


def face_colour(before: Frame, after: Frame, landmarks: np.ndarray) -> np.ndarray:
    """Return (3,) BGR how the middle of the face changed."""
    x, y = landmarks[:, :2].mean(axis=0).astype(int)
    part = slice(y - 20, y + 20), slice(x - 20, x + 20)
    return np.asarray(after[part].mean(axis=(0, 1)) - before[part].mean(axis=(0, 1)))


def test_a_whole_clip_is_swapped_and_the_detector_keeps_its_rhythm(
    neural: NeuralFaceEngine, worn: bytes, clip: list[Frame]
) -> None:
    results = play(neural, neural.open(FaceSettings(), [worn]), clip)
    assert {result.outcome for result in results} == {FaceOutcome.SWAPPED}
    assert sum(result.detector_ran for result in results) <= len(clip) // 5 + 3


def test_sessions_of_one_call_wear_their_own_identities(
    neural: NeuralFaceEngine, worn: bytes, clip: list[Frame], fit: Fit
) -> None:
    """One batch, several people; each result is what the session gets alone."""
    blobs = [with_tint(worn, seed) for seed in range(4)]
    frames = [clip[20 * i] for i in range(4)]
    alone = [
        neural.process([(neural.open(FaceSettings(), [blob]), frame, 0)])[0]
        for blob, frame in zip(blobs, frames, strict=True)
    ]
    jobs = [(neural.open(FaceSettings(), [blob]), frame, 0) for blob, frame in zip(blobs, frames, strict=True)]
    for blob, frame, single, together in zip(blobs, frames, alone, neural.process(jobs), strict=True):
        np.testing.assert_array_equal(single.frame, together.frame)
        wanted = 255 * standins.tint(codec.decode(blob).latent)[::-1]
        changed = face_colour(frame, together.frame, fit(frame))
        room = (wanted > 0) * (255 - frame.mean()) - (wanted < 0) * frame.mean()
        clear = np.abs(wanted) > 20
        assert (np.sign(changed[clear]) == np.sign(room[clear])).all()


def test_the_largest_faces_wear_the_identity(neural: NeuralFaceEngine, worn: bytes, couple: list[Frame]) -> None:
    for most, faces in ((1, 1), (2, 2)):
        results = play(neural, neural.open(FaceSettings(max_faces=most), [worn] * most), couple)
        assert [result.faces for result in results] == [faces] * len(couple)


@pytest.mark.parametrize("bystanders", list(Bystanders))
def test_who_is_beyond_the_largest_follows_the_settings(
    neural: NeuralFaceEngine, worn: bytes, couple: list[Frame], fit: Fit, bystanders: Bystanders
) -> None:
    woman = slice(100, 356), slice(512, None)
    session = neural.open(FaceSettings(max_faces=1, bystanders=bystanders), [worn])
    for before, after in zip(couple, play(neural, session, couple), strict=True):
        if bystanders is Bystanders.SHOW:
            np.testing.assert_array_equal(after.frame[woman], before[woman])
        else:
            assert leak_ssim(before[woman], after.frame[woman], fit(before[woman])) < 0.9


def test_a_bystander_in_the_crop_of_the_performer_stays_covered(
    neural: NeuralFaceEngine, worn: bytes, clip: list[Frame], portrait: Frame
) -> None:
    """Head to head, so that the square around one face holds part of the other."""
    close = np.full((512, 640, 3), 90, np.uint8)
    close[:, :512] = clip[0]
    close[90:430, 300:520] = cv2.resize(portrait, (340, 340), interpolation=cv2.INTER_AREA)[:, 60:280]
    man, woman = sorted(neural._detector.detect(close), key=lambda face: -face.size)
    assert man.box[0] < woman.box[0] < man.box[2] + 0.4 * man.size  # the crop reaches about half a face beyond the box
    expected = close.copy()
    cover.cover_region(expected, woman.box)
    (result,) = play(neural, neural.open(FaceSettings(max_faces=1), [worn]), [close])
    assert result.faces == 1
    left, top, right, bottom = woman.box.astype(int)
    np.testing.assert_array_equal(result.frame[top:bottom, left:right], expected[top:bottom, left:right])


@pytest.mark.parametrize("gap", ["black", "hidden"])
def test_a_lost_face_is_covered_until_it_is_found(
    neural: NeuralFaceEngine, worn: bytes, clip: list[Frame], gap: str
) -> None:
    frames = [frame.copy() for frame in clip[:24]]
    for i in range(8, 14):
        if gap == "black":
            frames[i][:] = 0
        else:
            frames[i][80:420, 100:420] = 128
    outcomes = [result.outcome for result in play(neural, neural.open(FaceSettings(), [worn]), frames)]
    assert outcomes[:8] == [FaceOutcome.SWAPPED] * 8
    assert outcomes[8:14] == [FaceOutcome.COVERED] * 6
    assert outcomes[15:] == [FaceOutcome.SWAPPED] * 9


def test_a_cut_is_swapped_at_once(neural: NeuralFaceEngine, worn: bytes, clip: list[Frame], portrait: Frame) -> None:
    """The detector runs on the very frame after the cut, not five later."""
    other = np.full((512, 512, 3), 230, np.uint8)
    other[20:308, 200:488] = portrait
    results = play(neural, neural.open(FaceSettings(), [worn]), [clip[0], clip[1], other, other])
    assert [result.detector_ran for result in results] == [True, False, True, False]
    assert [result.outcome for result in results] == [FaceOutcome.SWAPPED] * 4


@pytest.mark.parametrize("wrong", ["in a row", "beside the box", "of a child in it"])
def test_a_face_whose_keypoints_belie_its_box_is_covered(
    neural: NeuralFaceEngine, worn: bytes, clip: list[Frame], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """A swap that would be pasted small or elsewhere leaves the face bare: it does not count as one."""
    (face,) = neural._detector.detect(clip[0])
    row = np.stack([200 + 10 * np.arange(5), np.full(5, 200)], axis=1)
    aside = face.keypoints + np.array([face.size, 0])
    small = (face.keypoints - face.keypoints.mean(axis=0)) * 0.4 + face.keypoints.mean(axis=0)
    points = {"in a row": row, "beside the box": aside, "of a child in it": small}[wrong].astype(np.float32)
    monkeypatch.setattr(neural._detector, "detect", lambda _: [Detection(face.score, face.box, points)])
    (result,) = neural.process([(neural.open(FaceSettings(), [worn]), clip[0], 0)])
    assert result.outcome is FaceOutcome.COVERED
    np.testing.assert_array_equal(result.frame, cover.covered(clip[0]))


def test_who_wears_nothing_is_covered(neural: NeuralFaceEngine, couple: list[Frame], fit: Fit) -> None:
    """The whole face, though only five points of it are known."""
    session = neural.open(FaceSettings(max_faces=2, bystanders=Bystanders.SHOW), [])
    for before, after in zip(couple, play(neural, session, couple), strict=True):
        assert after.outcome is FaceOutcome.COVERED
        for part in (slice(0, 512), slice(512, None)):
            assert leak_ssim(before[:, part], after.frame[:, part], fit(before[:, part])) < 0.9


def test_a_swapper_that_breaks_while_running_covers_the_face(portrait: Frame, clip: list[Frame], worn: bytes) -> None:
    """Half precision may overflow on one frame and not on the next; nothing raw is shown then."""
    engine = standins.neural_engine()
    session = engine.open(FaceSettings(on_miss=OnMiss.BLUR), [worn])
    assert session.worn[0] is not None
    session.worn[0].latent[:] = np.nan
    (result,) = play(engine, session, [clip[0]])
    np.testing.assert_array_equal(result.frame, cover.covered(clip[0]))
    assert engine.enrol(portrait)


def test_enrolment_says_what_is_wrong(neural: NeuralFaceEngine, portrait: Frame) -> None:
    small = np.full((288, 288, 3), 127, np.uint8)
    small[100:180, 100:180] = cv2.resize(portrait, (80, 80), interpolation=cv2.INTER_AREA)
    with pytest.raises(EnrolmentRefused, match="px wide"):
        neural.enrol(small)
    with pytest.raises(EnrolmentRefused, match="8-bit colour"):
        neural.enrol(portrait[..., 0])


def test_the_same_face_is_the_same_identity_and_another_is_not(
    neural: NeuralFaceEngine, worn: bytes, portrait: Frame, clip: list[Frame]
) -> None:
    own = codec.decode(worn).embedding
    brighter = codec.decode(neural.enrol(cv2.convertScaleAbs(portrait, alpha=1.05).astype(np.uint8))).embedding
    man = codec.decode(neural.enrol(clip[0])).embedding
    assert own @ brighter > 0.95
    assert own @ man < own @ brighter


def test_a_template_made_with_another_swapper_file_gets_its_latent_anew(neural: NeuralFaceEngine, worn: bytes) -> None:
    template = codec.decode(worn)
    foreign = codec.NeuralTemplate(template.embedding, -template.latent, b"another matrix")
    session = neural.open(FaceSettings(), [codec.encode(foreign)])
    assert session.worn[0] is not None
    np.testing.assert_allclose(session.worn[0].latent, template.latent, atol=1e-5)


@pytest.mark.parametrize("kind", ["nan", "black"])
def test_a_swapper_that_does_not_work_here_is_refused(kind: str) -> None:
    broken = standins.folder(**{SWAPPER: standins.swapper_graph(kind=kind)})
    with pytest.raises(ModelRefused, match=SWAPPER):
        load_neural_face(broken, Runtime("cpu"))


def test_a_swapper_unlike_its_single_precision_file_is_refused() -> None:
    same = standins.folder(**{SWAPPER_FP32: standins.swapper_graph()})
    assert load_neural_face(same, Runtime("cpu")).name == "neural"
    unlike = standins.folder(**{SWAPPER_FP32: standins.swapper_graph(kind="dim")})
    with pytest.raises(ModelRefused, match="differs from the reference"):
        load_neural_face(unlike, Runtime("cpu"))
    assert load_neural_face(unlike, Runtime("cpu"), inswapper=SWAPPER_FP32).name == "neural"


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelRefused, match="InSwapper"):
        load_neural_face(standins.folder(**{SWAPPER: standins.recogniser_graph()}), Runtime("cpu"))


def test_a_graph_fixed_to_one_face_is_batched_at_load(worn: bytes, couple: list[Frame]) -> None:
    fixed = standins.folder(**{SWAPPER: standins.swapper_graph(fixed=True)})
    engine, free = load_neural_face(fixed, Runtime("cpu")), standins.neural_engine()
    shown = [
        one.process([(one.open(FaceSettings(max_faces=2), [worn] * 2), couple[0], 0)])[0] for one in (engine, free)
    ]
    np.testing.assert_array_equal(shown[0].frame, shown[1].frame)


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the batch sizes that swappers make buffers for from here on."""
    sizes, bind = [], Network.bind

    def counted(network: Network, shapes: Mapping[str, tuple[int, ...]]) -> Bound:
        if "target" in shapes:
            sizes.append(shapes["target"][0])
        return bind(network, shapes)

    monkeypatch.setattr(Network, "bind", counted)
    return sizes


def test_on_a_gpu_every_batch_size_is_ready_when_the_engine_is_loaded(
    bound: list[int], worn: bytes, couple: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest first. This machine's provider passes for a GPU: nothing else is asked of it."""
    monkeypatch.setattr(Runtime, "accelerated", property(lambda _: True))
    engine = load_neural_face(standins.folder(), Runtime("cpu"))
    assert bound == [8, 7, 6, 5, 4, 3, 2, 1]
    for most in (1, 2):
        play(engine, engine.open(FaceSettings(max_faces=most), [worn] * most), couple[:2])
    assert len(bound) == 8


def test_on_a_cpu_buffers_are_made_when_they_are_needed(bound: list[int], worn: bytes, couple: list[Frame]) -> None:
    engine = load_neural_face(standins.folder(), Runtime("cpu"))
    assert bound == []
    play(engine, engine.open(FaceSettings(max_faces=2), [worn] * 2), couple[:2])
    assert bound == [2]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_tensorrt_is_told_the_batches_to_come_or_builds_as_they_come(
    monkeypatch: pytest.MonkeyPatch, *, whole: bool, fixed: bool
) -> None:
    """It refuses to be told where it takes a part of the graph only. This machine's CPU stands in for it."""
    told, open_session = [], runtime._session

    def session(graph: bytes, providers: Requested, threads: int) -> Any:
        profile = {name: shapes for name, shapes in providers[0][1].items() if "profile" in name}
        told.append(profile)
        if profile and not whole:
            raise RuntimeError("User needs to provide all the dynamic shape inputs")
        return open_session(graph, [("CPUExecutionProvider", {})], threads)

    chosen = Runtime("cpu")
    chosen.provider = "tensorrt"
    monkeypatch.setattr(runtime, "_session", session)
    monkeypatch.setitem(EXECUTION, "tensorrt", "CPUExecutionProvider")
    monkeypatch.setattr(Runtime, "_refuse_idle", lambda *_: None)
    with capture_logs() as logs:
        network = _swapper_network(chosen, standins.swapper_graph(fixed=fixed), SWAPPER)
    assert network.inputs[0].shape == (None, 3, 128, 128)
    profile = {
        "trt_profile_min_shapes": "target:1x3x128x128,source:1x512",
        "trt_profile_opt_shapes": "target:4x3x128x128,source:4x512",
        "trt_profile_max_shapes": "target:8x3x128x128,source:8x512",
    }
    assert told == [{}, profile] if whole else told == [{}, profile, {}]
    assert [line["event"] for line in logs] == ([] if whole else ["engines_are_built_as_shapes_come"])


def test_options_reach_the_picture(worn: bytes, clip: list[Frame], fit: Fit) -> None:
    plain, lit = (
        load_neural_face(standins.folder(), Runtime("cpu"), options=options)
        for options in (None, SwapOptions(light=1.0))
    )
    shown = [one.process([(one.open(FaceSettings(), [worn]), clip[0], 0)])[0].frame for one in (plain, lit)]
    changes = [np.abs(face_colour(clip[0], frame, fit(clip[0]))) for frame in shown]
    assert changes[1].max() < changes[0].max()
