"""Around the networks of the neural face engine: our pre- and post-processing next to insightface's, frame by frame.

The networks' answers are canned, so that only what surrounds them is measured, and both sides get the same. Both run on
one core, in turns, and medians are compared. Ours includes what the pipeline does for a new frame: a copy of the old
one. Where insightface is not installed its figures are null; batching needs `onnx` alone, to make a random graph.

insightface makes fresh pictures of megabytes for every frame, and whether those cost page faults depends on what a
process did before: the C library hands memory back to the system from a threshold on that grows with the largest piece
freed. So every size is measured in processes of its own, a new one and one that once freed a large piece, as a process
may that loaded models.
"""

import importlib.util
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ops.bench.engines import one_core
from ops.shipped_media import media_file
from workers.models.contract import Tensor
from workers.models.runtime import Network, Runtime
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.neural import align, contracts
from workers.video.neural.inswapper import InSwapper, picture
from workers.video.neural.paste import Paster
from workers.video.neural.scrfd import Scrfd
from workers.video.pixels import Affine, Float, f32

SIZES = {"512": (512, 512, 256), "720p": (1280, 720, 360), "1080p": (1920, 1080, 540)}
"""Width and height of the frame, and the side of the swapped crop in it, px."""
REQUIRED = {"post_ratio": {"512": 12.0, "720p": 20.0, "1080p": 16.0}, "detector_ratio": 4.0, "psnr_db": 50.0}
_TURN_DEGREES = 4.0  # nobody holds their head exactly upright
_CHANNELS = 128  # of the random graph, an eighth of the real one's: 1/64 of its 349 GFLOP
_BLOCKS = 6
_BATCH = 8
_LARGE_PIECE = 31 << 20  # bytes; glibc's threshold grows to 32 MiB at most


@dataclass
class NeuralVideoFigures:
    """Ratios above 1 say how many times less ours takes. None: could not be measured here, and `missing` says why.

    `detector_ratio` is the median of the three sizes, `detector_ratio_least` and `psnr_db` their least; `milliseconds`
    has each. `met` says of every figure with a required value whether it reached it, of the detector's the least; it is
    one run's word. `large_heap` has both ratios again, in processes where fresh memory costs little.
    `detector_bytes_ratio` is what a GPU leaves to the host, whose graph is edited to take bytes; what its added nodes
    take there is not in it. `batch_ratio` is that of a graph of 1/64 of InSwapper's cost; `ops.bench.neural_full`
    measures one of its full cost.
    """

    post_ratio: dict[str, float] | None = None
    detector_ratio: float | None = None
    detector_ratio_least: float | None = None
    detector_bytes_ratio: float | None = None
    large_heap: dict[str, object] | None = None
    psnr_db: float | None = None
    batch_ratio: float | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return the published keys."""
        return {
            "post_ratio": self.post_ratio,
            "detector_ratio": self.detector_ratio,
            "detector_ratio_least": self.detector_ratio_least,
            "detector_bytes_ratio": self.detector_bytes_ratio,
            "large_heap": self.large_heap,
            "psnr_db": self.psnr_db,
            "batch_ratio": self.batch_ratio,
            "milliseconds": self.milliseconds,
            "required": REQUIRED,
            "met": {
                "post_ratio": _met(self.post_ratio, REQUIRED["post_ratio"]),
                "detector_ratio": _met(self.detector_ratio_least, REQUIRED["detector_ratio"]),
                "psnr_db": _met(self.psnr_db, REQUIRED["psnr_db"]),
            },
            "missing": self.missing,
        }


def measure(rounds: int = 40, progress: Callable[[int], None] = lambda _: None) -> NeuralVideoFigures:
    """Measure everything that can be measured here. The caller pins a new process to one core first (`one_core`).

    `progress` is called with 1 seven times at most.
    """
    figures = NeuralVideoFigures()
    if importlib.util.find_spec("insightface") is None:
        figures.missing.append("insightface is not installed: post_ratio, detector_ratio and psnr_db are unknown")
    else:
        _against_insightface(figures, rounds, progress)
    if importlib.util.find_spec("onnx") is None:
        figures.missing.append("onnx is not installed: batch_ratio is unknown")
    else:
        figures.batch_ratio = _batching(figures)
        progress(1)
    return figures


def _against_insightface(figures: NeuralVideoFigures, rounds: int, progress: Callable[[int], None]) -> None:
    scenes = {name: _scene(*size) for name, size in SIZES.items()}
    took: dict[str, dict[str, _Took]] = {"": {}, "_large_heap": {}}
    alone = multiprocessing.get_context("spawn")
    for heap, sizes in took.items():
        for name, (frame, keypoints) in scenes.items():
            with alone.Pool(1, initializer=one_core) as process:
                sizes[name] = process.apply(_one_size, (frame, keypoints, rounds, _LARGE_PIECE if heap else 0))
            figures.milliseconds |= {
                f"{stage}_{name}_{whose}{heap}": round(ms, 3)
                for stage, figure in (("detector", sizes[name].detector), ("post", sizes[name].post))
                for whose, ms in figure.items()
            }
            progress(1)
    new, large = took[""], took["_large_heap"]
    figures.post_ratio, figures.detector_ratio = _posts(new), _detectors(new, "ours")
    figures.detector_ratio_least = _detectors(new, "ours", min)
    figures.detector_bytes_ratio = _detectors(new, "ours_bytes")
    figures.large_heap = {"post_ratio": _posts(large), "detector_ratio": _detectors(large, "ours")}
    figures.psnr_db = round(min(size.psnr_db for size in new.values()), 1)


@dataclass(frozen=True)
class _Took:
    """One size in one process: milliseconds by whose they are, and how alike the pasted frames are."""

    detector: dict[str, float]
    post: dict[str, float]
    psnr_db: float


def _one_size(frame: Frame, keypoints: Float, rounds: int, freed: int) -> _Took:
    """Measure both stages in this process, after a piece of `freed` bytes was used and given back."""
    warnings.filterwarnings("ignore")  # insightface's own, of other packages
    np.ones(freed, np.uint8)
    return _Took(_detection(frame, rounds), *_post(frame, keypoints, rounds))


def _met(found: Any, required: Any) -> Any:
    """Return whether `found` is at least `required`, by key where they are dicts; None for what is not known."""
    if found is None:
        return None
    return (
        {name: found[name] >= least for name, least in required.items()}
        if isinstance(required, dict)
        else (found >= required)
    )


def _posts(sizes: Mapping[str, _Took]) -> dict[str, float]:
    return {name: round(took.post["insightface"] / took.post["ours"], 1) for name, took in sizes.items()}


def _detectors(
    sizes: Mapping[str, _Took], whose: str, of_sizes: Callable[[Iterable[float]], float] = statistics.median
) -> float:
    ratios = [took.detector["insightface"] / took.detector[whose] for took in sizes.values()]
    return round(of_sizes(ratios), 1)


def _post(frame: Frame, keypoints: Float, rounds: int) -> tuple[dict[str, float], float]:
    """Return milliseconds of both pastes, and how alike their frames are (dB)."""
    from insightface.app.common import Face  # noqa: PLC0415 - only where it is installed

    to_crop = align.similarity(keypoints, align.template(contracts.CROP))
    assert to_crop is not None  # noqa: S101 - made from five proper points
    crop = align.warp(frame, to_crop, contracts.CROP)
    answer = f32(255 - cv2.GaussianBlur(crop, (0, 0), 1))[..., ::-1].transpose(2, 0, 1) / np.float32(255)
    theirs, face, source = _insightface_swapper(answer), Face(kps=keypoints), Face(embedding=np.ones(512, np.float32))
    pixels = picture(np.ascontiguousarray(answer))
    assert pixels is not None  # noqa: S101 - made from finite numbers
    paster = Paster()

    def ours() -> Frame:
        shown = frame.copy()
        paster.paste(shown, pixels, to_crop)
        return shown

    with_paste, without, own = _medians(
        [
            lambda: theirs.get(frame, face, source, paste_back=True),
            lambda: theirs.get(frame, face, source, paste_back=False),
            ours,
        ],
        rounds,
    )
    pasted = theirs.get(frame, face, source, paste_back=True)
    error = np.square(pasted.astype(np.float64) - ours()).mean()
    return {"insightface": with_paste - without, "ours": own}, float(10 * np.log10(255**2 / max(error, 1e-9)))


def _detection(frame: Frame, rounds: int) -> dict[str, float]:
    """Return milliseconds of both detectors without their network, and of ours where the graph takes bytes."""
    from insightface.model_zoo.scrfd import SCRFD  # noqa: PLC0415 - only where it is installed

    side = contracts.DETECTOR_SIDE
    answers = _detector_answers(side)
    canned = _CannedNetwork((Tensor("input.1", "float32", (1, 3, None, None)),), answers)
    theirs = SCRFD(model_file=None, session=canned)
    theirs.prepare(-1, input_size=(side, side), det_thresh=0.5)
    floats: Any = canned
    of_bytes: Any = _CannedNetwork((Tensor("bytes", "uint8", (1, None, None, 3)),), answers)
    ours, ours_of_bytes = Scrfd(floats, side), Scrfd(of_bytes, side)
    parts: dict[str, Callable[[], object]] = {
        "insightface": lambda: theirs.detect(frame, input_size=(side, side)),
        "ours": lambda: ours.detect(frame),
        "ours_bytes": lambda: ours_of_bytes.detect(frame),
    }
    return dict(zip(parts, _medians(list(parts.values()), rounds), strict=True))


def _medians(parts: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median CPU milliseconds of each part; they take turns of five, the first of which warms caches."""
    spent: list[list[float]] = [[] for _ in parts]
    for _ in range(max(rounds // 4, 1)):
        for part, times in zip(parts, spent, strict=True):
            part()
            for _ in range(4):
                started = time.thread_time()
                part()
                times.append((time.thread_time() - started) * 1000)
    return [float(np.median(times)) for times in spent]


def _scene(width: int, height: int, crop_px: int) -> tuple[Frame, Float]:
    """Return the shipped portrait, placed so that its face's crop is `crop_px` px, and its keypoints (5, 2) px."""
    portrait = cv2.imread(str(media_file("portrait.png")))
    if portrait is None:
        raise FileNotFoundError(media_file("portrait.png"))
    right, left, nose, mouth = SecondOpinionDetector().detect(np.asarray(portrait, np.uint8))[0].keypoints[:4]
    found = f32([right, left, nose, mouth - 0.41 * (left - right), mouth + 0.41 * (left - right)])
    scale, turn = crop_px / contracts.CROP, np.deg2rad(_TURN_DEGREES)
    spin = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    wanted = (align.template(contracts.CROP) - contracts.CROP / 2) @ spin.T + np.array([width / 2 + 0.3, height / 2])
    to_frame = align.similarity(found, f32(wanted))
    assert to_frame is not None  # noqa: S101 - made from five proper points
    flags = cv2.INTER_CUBIC
    frame = cv2.warpAffine(portrait, to_frame, (width, height), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(frame, np.uint8), _mapped(to_frame, found)


def _mapped(affine: Affine, points: Float) -> Float:
    return f32(points @ affine[:, :2].T + affine[:, 2])


class _CannedNetwork:
    """Answers at once with what it was given: an ONNX Runtime session to insightface, a `Network` to Mirage."""

    def __init__(self, inputs: tuple[Tensor, ...], answers: Mapping[str, NDArray[Any]]) -> None:
        self.inputs = inputs
        self.outputs = tuple(Tensor(name, "float32", array.shape) for name, array in answers.items())
        self._answers = answers

    def bind(self, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        canned, answers = type("CannedBound", (), {})(), self._answers
        dtypes = {str(tensor.name): tensor.dtype for tensor in self.inputs}
        canned.inputs = {name: np.zeros(shape, dtypes[name]) for name, shape in shapes.items()}
        canned.run = lambda: answers
        return canned

    def get_inputs(self) -> list[Any]:
        return [_CannedTensor(tensor) for tensor in self.inputs]

    def get_outputs(self) -> list[Any]:
        return [_CannedTensor(tensor) for tensor in self.outputs]

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]

    def set_providers(self, providers: object) -> None:
        """Nothing to choose from."""

    def run(self, names: object, feeds: object) -> list[NDArray[Any]]:  # noqa: ARG002 - as ONNX Runtime has it
        return list(self._answers.values())


class _CannedTensor:
    def __init__(self, tensor: Tensor) -> None:
        self.name = tensor.name
        self.shape = ["?" if axis is None else axis for axis in tensor.shape]


def _detector_answers(side: int) -> dict[str, NDArray[Any]]:
    """Return nine outputs with three faces, each seen by four cells."""
    rng = np.random.default_rng(0)
    answers = {}
    for values in (1, 4, 10):
        for stride in contracts.STRIDES:
            cells = (side // stride) ** 2 * contracts.ANCHORS
            answers[f"{values}_{stride}"] = f32(rng.random((cells, values)) * (0.3 if values == 1 else 4))
    for stride, where in ((8, 3000), (16, 900), (32, 300)):
        answers[f"1_{stride}"][where : where + 4] = 0.9
    return answers


def _insightface_swapper(answer: Float) -> Any:
    """Return insightface's INSwapper on a session that always gives `answer` (3, 128, 128)."""
    from insightface.model_zoo.inswapper import INSwapper  # noqa: PLC0415 - only where it is installed
    from onnx import helper, numpy_helper, save  # noqa: PLC0415 - comes with insightface

    shape = (1, 3, contracts.CROP, contracts.CROP)
    inputs = (Tensor("target", "float32", shape), Tensor("source", "float32", (1, contracts.EMBEDDING)))
    emap = numpy_helper.from_array(np.eye(contracts.EMBEDDING, dtype=np.float32), "buff2fs")
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        path = Path(folder) / "emap.onnx"  # it reads the matrix from a file, whatever session it is given
        save(helper.make_model(helper.make_graph([], "emap", [], [], [emap])), str(path))
        return INSwapper(str(path), session=_CannedNetwork(inputs, {"output": answer[None]}))


def _batching(figures: NeuralVideoFigures) -> float:
    """Return 8 faces one by one against 8 at once, on a random graph of InSwapper's shape."""
    network: Network = Runtime("cpu").open(swapper_like_graph(_CHANNELS), contracts.SWAPPER, label="random graph")
    swapper = InSwapper(network)
    rng = np.random.default_rng(0)
    crops = [rng.integers(0, 255, (contracts.CROP, contracts.CROP, 3), np.uint8) for _ in range(_BATCH)]
    latents = [f32(rng.standard_normal(contracts.EMBEDDING) / np.sqrt(contracts.EMBEDDING)) for _ in range(_BATCH)]

    def one_by_one() -> None:
        for crop, latent in zip(crops, latents, strict=True):
            swapper.new_faces([crop], [latent])

    alone, together = _medians([one_by_one, lambda: swapper.new_faces(crops, latents)], 4)
    figures.milliseconds |= {"batch_8_by_1": round(alone, 1), "batch_1_by_8": round(together, 1)}
    return round(alone / together, 2)


def swapper_like_graph(channels: int) -> bytes:
    """Return an ONNX graph of InSwapper's shape with random weights and a free first axis; 1024 channels is full size.

    Convolutions down to 32 x 32, six residual blocks whose instance normalisation is scaled and shifted by linear maps
    of the latent, and back up.
    """
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415 - only where it is installed

    rng = np.random.default_rng(0)
    nodes: list[Any] = []
    weights: dict[str, NDArray[Any]] = {
        "ones": np.ones(channels, np.float32),
        "zeros": np.zeros(channels, np.float32),
        "planes": np.array([-1, channels, 1, 1], np.int64),
        "twice": f32([1, 1, 2, 2]),
    }

    def add(kind: str, *given: str, **attributes: Any) -> str:
        made = f"v{len(nodes)}"
        nodes.append(helper.make_node(kind, list(given), [made], **attributes))
        return made

    def weight(*shape: int) -> str:
        name = f"w{len(weights)}"
        weights[name] = f32(rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])))
        return name

    def convolved(given: str, out: int, into: int, side: int, stride: int = 1) -> str:
        kernel = weight(out, into, side, side)
        return add("Conv", given, kernel, kernel_shape=[side, side], pads=[side // 2] * 4, strides=[stride, stride])

    def styled(given: str) -> str:
        normal = add("InstanceNormalization", given, "ones", "zeros", epsilon=1e-8)
        gain, shift = (
            add("Reshape", add("MatMul", "source", weight(contracts.EMBEDDING, channels)), "planes") for _ in range(2)
        )
        return add("Add", add("Mul", normal, gain), shift)

    x = "target"
    for out, into, side, stride in ((8, None, 7, 1), (4, 8, 3, 1), (2, 4, 3, 2), (1, 2, 3, 2)):
        x = add("Relu", convolved(x, channels // out, channels // into if into else 3, side, stride))
    for _ in range(_BLOCKS):
        inner = add("Relu", styled(convolved(x, channels, channels, 3)))
        x = add("Add", x, styled(convolved(inner, channels, channels, 3)))
    for out, into in ((2, 1), (4, 2)):
        larger = add("Resize", x, "", "twice", mode="linear")
        x = add("Relu", convolved(larger, channels // out, channels // into, 3))
    nodes.append(helper.make_node("Sigmoid", [convolved(x, 3, channels // 4, 7)], ["output"]))
    picture_shape: list[str | int | None] = ["batch", 3, contracts.CROP, contracts.CROP]
    latent_shape: list[str | int | None] = ["batch", contracts.EMBEDDING]
    inputs = {"target": picture_shape, "source": latent_shape}
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, picture_shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
