"""CodeFormer in the pipeline, on a stand-in graph that brightens by what the fidelity leaves it."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from schemas.errors import ModelRefused
from tests.workers.video.neural import standins
from workers.models.bound import Bound
from workers.models.manifest import CODEFORMER
from workers.models.runtime import Network, Runtime
from workers.video.engine import FaceOutcome, FaceSettings, FaceTuning, Frame
from workers.video.faces import TrackMemory
from workers.video.neural import align, contracts
from workers.video.neural.codeformer import CodeFormerEnhancer, load_codeformer
from workers.video.neural.engine import load_neural_face
from workers.video.neural.paste import NeuralPatch, Paster
from workers.video.pixels import f32

GAIN = 0.5  # of -1 … 1: what a fidelity of 0 adds


@cache
def graph(*, factor: float = 1.0, image: str = "image") -> bytes:
    """Return a graph that gives factor * image + GAIN * (1 - w)."""
    shape: list[Any] = ["faces", 3, 512, 512]
    constants = {"gain": GAIN, "one": 1.0, "factor": factor}
    nodes = [
        helper.make_node("Sub", ["one", "w"], ["rest"]),
        helper.make_node("Mul", ["rest", "gain"], ["lift"]),
        helper.make_node("Mul", [image, "factor"], ["kept"]),
        helper.make_node("Add", ["kept", "lift"], ["restored"]),
    ]
    made = helper.make_graph(
        nodes,
        "codeformer",
        [
            helper.make_tensor_value_info(image, TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("restored", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


class Counted(Network):
    """A network that counts its runs on frames."""

    def __init__(self, network: Network) -> None:
        self.inner, self.outputs, self.runs = network, network.outputs, 0

    def bind(self, shapes: Mapping[str, tuple[int, ...]]) -> Bound:
        bound = self.inner.bind(shapes)
        run = bound.run

        def counted() -> Mapping[str, NDArray[Any]]:
            self.runs += 1
            return run()

        bound.run = counted  # type: ignore[method-assign]
        return bound


def network() -> Counted:
    return Counted(Runtime("cpu").open(graph(), contracts.ENHANCER, label="stand-in"))


def patch(memory: TrackMemory, *, shift: float = 0.0, tuning: FaceTuning | None = None) -> NeuralPatch:
    """Return a grey face, `shift` px to the right of the first, in a grey frame."""
    points = f32(align.template(128) + 60 + f32([shift, 0]))
    to_crop = align.similarity(points, align.template(128))
    assert to_crop is not None
    frame: Frame = np.full((300, 300, 3), 100, np.uint8)
    swapped: Frame = np.full((128, 128, 3), 100, np.uint8)
    return NeuralPatch(frame, points, swapped, to_crop, memory, Paster(), tuning=tuning or FaceTuning())


def brightness(made: NeuralPatch) -> float:
    frame = made.frame.copy()
    made.paste(frame)
    x, y = made.points.mean(axis=0).astype(int)
    return float(frame[y - 5 : y + 5, x - 5 : x + 5].mean())


def lifted(fidelity: float) -> float:
    return 100 + 127.5 * GAIN * (1 - fidelity)


def test_the_network_runs_on_every_nth_frame_and_its_detail_is_carried_over_to_where_the_face_is() -> None:
    counted, memory = network(), TrackMemory()
    enhancer = CodeFormerEnhancer(counted, fidelity=0.5, every=3)
    runs = []
    for frame in range(7):
        (made,) = enhancer.enhance([patch(memory, shift=frame * 4.0)])
        assert brightness(made) == pytest.approx(lifted(0.5), abs=2)
        runs.append(counted.runs)
    assert runs == [1, 1, 1, 2, 2, 2, 3]


def test_tracks_do_not_share_what_was_added() -> None:
    counted = network()
    enhancer = CodeFormerEnhancer(counted, fidelity=0.5, every=10)
    enhancer.enhance([patch(TrackMemory()), patch(TrackMemory(), shift=30)])
    assert counted.runs == 2


def test_it_is_the_first_thing_to_go_when_the_session_is_over_its_budget() -> None:
    counted, memory = network(), TrackMemory()
    enhancer = CodeFormerEnhancer(counted, fidelity=0.0, every=1)
    seen = [brightness(enhancer.enhance([patch(memory, tuning=FaceTuning(rung=rung))])[0]) for rung in (0, 1, 2, 0)]
    assert seen == pytest.approx([lifted(0), 100, 100, lifted(0)], abs=2)
    assert counted.runs == 2


def test_a_changed_fidelity_holds_from_the_next_frame() -> None:
    counted, memory = network(), TrackMemory()
    enhancer = CodeFormerEnhancer(counted, fidelity=1.0, every=100)
    for fidelity, wanted in ((None, 1.0), (0.25, 0.25), (0.25, 0.25), (0.75, 0.75)):
        (made,) = enhancer.enhance([patch(memory, tuning=FaceTuning(fidelity=fidelity))])
        assert brightness(made) == pytest.approx(lifted(wanted), abs=2)
    assert counted.runs == 3


def test_a_network_that_changes_nothing_gives_every_level_of_every_channel_back() -> None:
    enhancer = CodeFormerEnhancer(network(), fidelity=1.0, every=1)
    crop: Frame = np.random.default_rng(1).permuted(np.arange(512 * 512 * 3, dtype=np.uint8)).reshape(512, 512, 3)
    given = crop.copy()
    np.testing.assert_array_equal(enhancer._restored(crop, 1.0), given)


def test_an_answer_that_is_no_picture_leaves_the_swapped_face_as_it_is() -> None:
    broken = Runtime("cpu").open(graph(factor=float("nan")), contracts.ENHANCER, label="stand-in")
    (made,) = CodeFormerEnhancer(broken, fidelity=0.5, every=1).enhance([patch(TrackMemory())])
    assert brightness(made) == pytest.approx(100, abs=1)


def test_the_enhancer_is_left_out_where_its_graph_is_missing_or_it_is_switched_off() -> None:
    runtime = Runtime("cpu")
    assert load_codeformer(standins.folder(), runtime, fidelity=0.5, every=1) is None
    assert load_codeformer(standins.folder(**{CODEFORMER: graph()}), runtime, fidelity=0.5, every=0) is None


@pytest.mark.parametrize(
    ("bad", "said"), [(graph(image="picture"), "image"), (graph(factor=float("nan")), "NaN")], ids=["names", "nan"]
)
def test_another_graph_is_refused_by_what_is_wrong_with_it(bad: bytes, said: str) -> None:
    with pytest.raises(ModelRefused, match=said):
        load_codeformer(standins.folder(**{CODEFORMER: bad}), Runtime("cpu"), fidelity=0.5, every=1)


def test_in_the_engine_a_swapped_face_comes_out_enhanced(portrait: Frame) -> None:
    runtime, store = Runtime("cpu"), standins.folder(**{CODEFORMER: graph()})
    frame = portrait.copy()
    shown = []
    for every in (0, 1):
        enhancer = load_codeformer(store, runtime, fidelity=0.0, every=every)
        engine = load_neural_face(store, runtime, enhancer=enhancer)
        session = engine.open(FaceSettings(), [engine.enrol(portrait)])
        (result,) = engine.process([(session, frame, 0)])
        assert result.outcome is FaceOutcome.SWAPPED
        assert ("enhance" in result.stages_us) == bool(every)
        shown.append(result.frame.astype(np.int16))
    changed = shown[1] - shown[0]
    assert changed.max() > 127.5 * GAIN * 0.8  # the middle of the face is lifted
    assert (changed == 0).mean() > 0.3  # and most of the picture is not touched


def test_enhanced_faces_side_by_side_do_not_show_each_other_raw(portrait: Frame) -> None:
    """The enhancer's crop is twice as wide as a face: the last one pasted must not undo the swap of the first."""
    left = np.asarray(cv2.resize(portrait, (420, 420), interpolation=cv2.INTER_AREA), np.uint8)[:, :287]
    frame: Frame = np.ascontiguousarray(np.hstack([left, left[:, ::-1]]))
    models = standins.folder(**{CODEFORMER: graph()})
    enhancer = load_codeformer(models, Runtime("cpu"), fidelity=1.0, every=1)
    engine = load_neural_face(models, Runtime("cpu"), enhancer=enhancer)
    session = engine.open(FaceSettings(max_faces=2), [engine.enrol(portrait)] * 2)
    (result,) = engine.process([(session, frame, 0)])
    assert result.faces == 2
    tinted = np.abs(result.frame.astype(np.int16) - frame).mean(axis=2)
    for face in engine._detector.detect(frame):
        left_px, top, right, bottom = face.box.astype(int)
        assert tinted[top:bottom, left_px:right].mean(axis=0).min() > 20  # of every column
