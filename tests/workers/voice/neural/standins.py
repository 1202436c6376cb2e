"""Tiny graphs that keep the contracts of RVC's networks, so that the chain around them can be judged.

None of them knows anything of voices: the encoder is one random convolution, RMVPE answers with the loudest mel band,
the synthesiser is a sine whose phase starts anew in every run, as the real sine source does.
"""

import functools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from workers.voice.neural import rmvpe

FLOAT, HALF, INT = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
OPSET = 17


def constant(name: str, value: NDArray[Any] | np.generic) -> Any:
    return numpy_helper.from_array(np.asarray(value), name)


def graph(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, int, list[Any]]],
    outputs: Sequence[tuple[str, int, list[Any]]],
    constants: Sequence[Any],
    metadata: dict[str, str] | None = None,
) -> bytes:
    infos = [[helper.make_tensor_value_info(*value) for value in side] for side in (inputs, outputs)]
    model = helper.make_model(
        helper.make_graph(list(nodes), "standin", infos[0], infos[1], list(constants)),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
    )
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def node(kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(kind, list(inputs), [output], **attributes)


@functools.cache
def encoder() -> bytes:
    """ContentVec's shapes: one convolution of 400 samples every 320."""
    weights = np.random.default_rng(0).standard_normal((768, 1, 400)).astype(np.float32) * 0.05
    return graph(
        [
            node("Conv", ["source", "w"], "c", kernel_shape=[400], strides=[320]),
            node("Tanh", ["c"], "t"),
            node("Transpose", ["t"], "embed", perm=[0, 2, 1]),
        ],
        [("source", FLOAT, [1, 1, "n"])],
        [("embed", FLOAT, [1, "t", 768])],
        [constant("w", weights)],
    )


def times(made: bytes, factor: float) -> bytes:
    """Return a graph of one output that gives `factor` times what `made` gives."""
    model = onnx.load_from_string(made)
    (output,) = model.graph.output
    for each in model.graph.node:
        each.output[:] = ["before" if name == output.name else name for name in each.output]
    model.graph.initializer.append(constant("factor", np.float32(factor)))
    model.graph.node.append(node("Mul", ["before", "factor"], output.name))
    return bytes(model.SerializeToString())


def locked(made: bytes, *, axis: int, length: int, fills: bool = False) -> bytes:
    """Return a graph of one input that declares what `made` does, and has one length in it: as if traced so.

    It runs on inputs of `length` along `axis` only; with `fills` it takes any, and computes on so many all the same.
    """
    model = onnx.load_from_string(made)
    (given,) = model.graph.input
    for each in model.graph.node:
        each.input[:] = ["pinned" if name == given.name else name for name in each.input]
    if fills:
        pin = [
            node("Concat", [given.name] * 8, "plenty", axis=axis),
            node("Slice", ["plenty", "none", "length", "axis"], "pinned"),
        ]
        made_of = {"none": np.array([0]), "length": np.array([length]), "axis": np.array([axis])}
    else:
        shape = [axis_of.dim_value or 1 for axis_of in given.type.tensor_type.shape.dim]
        shape[axis] = length
        pin, made_of = [node("Reshape", [given.name, "traced"], "pinned")], {"traced": np.array(shape)}
    model.graph.initializer.extend(constant(name, value) for name, value in made_of.items())
    nodes = [*pin, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())


def _mel_to_salience() -> NDArray[np.float32]:
    """Return (128, 360): each mel band to a bump of seven bins at its centre's cents."""
    hertz = 700 * (10 ** (np.linspace(*_mel_edges(), rmvpe.MELS + 2)[1:-1] / 2595) - 1)
    cents = 1200 * np.log2(hertz / 10)
    bins = (cents - 1997.3794084376191) / 20
    return np.asarray(np.exp(-(((bins[:, None] - np.arange(360)) / 2) ** 2)), np.float32)


def _mel_edges() -> tuple[float, float]:
    low, high = 2595 * np.log10(1 + np.array((30.0, 8000.0)) / 700)
    return float(low), float(high)


@functools.cache
def pitch_finder() -> bytes:
    """RMVPE's shapes and its multiple of 32: salience at the frequency of the strongest mel band.

    Bands are some 20 Hz apart, so a tone is found within two semitones; nothing louder than ln(-4) gives nothing.
    """
    return graph(
        [
            node("Transpose", ["input"], "x", perm=[0, 2, 1]),
            node("Reshape", ["x", "by32"], "r"),  # fails unless T is a multiple of 32
            node("Reshape", ["r", "flat"], "y"),
            node("ReduceMax", ["y"], "top", axes=[2], keepdims=1),
            node("Sub", ["y", "top"], "below"),
            node("Mul", ["below", "sharp"], "s"),
            node("Exp", ["s"], "weight"),
            node("ReduceSum", ["weight", "bands"], "sum", keepdims=1),
            node("Div", ["weight", "sum"], "share"),
            node("MatMul", ["share", "m"], "peak"),
            node("Sub", ["top", "quiet"], "over"),
            node("Mul", ["over", "steep"], "steeper"),
            node("Sigmoid", ["steeper"], "loud"),
            node("Mul", ["peak", "loud"], "output"),
        ],
        [("input", FLOAT, [1, 128, "t"])],
        [("output", FLOAT, [1, "t", 360])],
        [
            constant("by32", np.array([1, -1, 32, 128])),
            constant("flat", np.array([1, -1, 128])),
            constant("bands", np.array([2])),
            constant("sharp", np.float32(4)),
            constant("m", _mel_to_salience()),
            constant("quiet", np.float32(-4)),
            constant("steep", np.float32(20)),
        ],
    )


def voice(
    family: str = "w-okada",
    *,
    rate: int = 48_000,
    locked: int = 0,
    poisoned: bool = False,
    half: bool = False,
    half_phase: bool = False,
    noisy: bool = False,
    noted_rate: int | None = None,
) -> bytes:
    """Return a synthesiser: a sine of `pitchf`, its phase summed from the start of the run.

    `family`: `w-okada`, `fork`, `rvc-project`. `locked`: only this many frames run. `poisoned`: NaN once a pitch
    passes 300 Hz. `half`: float16 in and out; `half_phase`: in the sine source too. `noisy`: noise drawn inside.
    """
    kind = HALF if half else FLOAT
    content, length, speaker = (
        ("phone", "phone_lengths", "ds") if family == "rvc-project" else ("feats", "p_len", "sid")
    )
    inputs: list[tuple[str, int, list[Any]]] = [
        (content, kind, [1, "t", 768]),
        (length, INT, [1]),
        ("pitch", INT, [1, "t"]),
        ("pitchf", FLOAT, [1, "t"]),
        (speaker, INT, [1]),
    ]
    if family == "rvc-project":
        inputs.append(("rnd", kind, [1, 192, "t"]))
    if family == "fork":
        inputs += [(name, INT, []) for name in ("skip_head", "return_length", "formant_length")]
    chain = _Chain(rate)
    chain.sine(locked=locked, half_phase=half_phase)
    chain.use([name for name, _, _ in inputs if name != "pitchf"])
    if noisy:
        chain.add("RandomNormalLike", [chain.last], "noise")
        chain.add("Mul", ["noise", "faint"], "hiss")
        chain.add("Add", ["sounding", "hiss"], "hissing")
    if poisoned:
        chain.poison()
    shape: list[Any] = ["n"]
    if family == "rvc-project":
        chain.constant("rank3", np.array([1, 1, -1]))
        chain.add("Reshape", [chain.last, "rank3"], "ranked")
        shape = [1, 1, "n"]
    chain.add("Cast", [chain.last], "audio", to=kind)
    noted = None
    if noted_rate or family != "rvc-project":
        noted = {"metadata": json.dumps({"samplingRate": noted_rate or rate, "f0": True, "version": "2.1"})}
    return graph(chain.nodes, inputs, [("audio", kind, shape)], chain.constants, noted)


class _Chain:
    """Nodes in a row; `last` is what the newest one gives."""

    def __init__(self, rate: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.last = "pitchf"
        for name, value in (
            ("hop", np.array([1, rate // 100])),
            ("flat", np.array([-1])),
            ("rate", np.float32(rate)),
            ("axis", np.int64(0)),
            ("turn", np.float32(2 * np.pi)),
            ("loud", np.float32(0.5)),
            ("unit", np.float32(1)),
            ("faint", np.float32(1e-3)),
            ("nothing", np.float32(0)),
        ):
            self.constant(name, np.asarray(value))

    def constant(self, name: str, value: NDArray[Any]) -> None:
        self.constants.append(constant(name, value))

    def add(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        self.nodes.append(node(kind, inputs, output, **attributes))
        self.last = output

    def sine(self, *, locked: int, half_phase: bool) -> None:
        """Add a sine where the pitch is above 0, from a phase that is summed over the run."""
        if locked:
            self.constant("locked", np.array([1, locked]))
            self.add("Reshape", ["pitchf", "locked"], "pinned")
        self.add("Transpose", [self.last], "column", perm=[1, 0])
        self.add("Expand", ["column", "hop"], "expanded")
        self.add("Reshape", ["expanded", "flat"], "samples")
        self.add("Min", ["samples", "unit"], "voicing")
        self.add("Div", ["samples", "rate"], "step")
        if half_phase:
            self.add("Cast", ["step"], "half_step", to=HALF)
        self.add("CumSum", [self.last, "axis"], "cycles")
        if half_phase:
            self.add("Cast", ["cycles"], "full_cycles", to=FLOAT)
        self.add("Mul", [self.last, "turn"], "phase")
        self.add("Sin", ["phase"], "sine")
        self.add("Mul", ["sine", "voicing"], "voiced")
        self.add("Mul", ["voiced", "loud"], "loudly")

    def use(self, names: Sequence[str]) -> None:
        """Add nothing of every other input, so that the graph needs it."""
        for name in names:
            self.nodes.append(node("Cast", [name], f"{name}_float", to=FLOAT))
            self.nodes.append(node("ReduceMean", [f"{name}_float"], f"{name}_mean", keepdims=0))
        self.nodes.append(node("Sum", [f"{name}_mean" for name in names], "everything"))
        self.nodes.append(node("Mul", ["everything", "nothing"], "nil"))
        self.add("Add", [self.last, "nil"], "sounding")

    def poison(self) -> None:
        """Turn into NaN once a pitch passes 300 Hz."""
        sound = self.last
        self.constant("limit", np.asarray(np.float32(300)))
        self.add("ReduceMax", ["pitchf"], "highest", keepdims=0)
        self.add("Greater", ["highest", "limit"], "high")
        self.add("Div", ["nothing", "nothing"], "nan")
        self.add("Where", ["high", "nan", sound], "poisoned")
