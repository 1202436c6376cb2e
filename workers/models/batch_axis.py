"""Makes the first axis of a graph free where it was exported for a batch of one: sessions then share a run.

Only fields that mention the batch are changed: the first axis of every input and output, the shapes in between that
the exporter wrote down (dropped; ONNX Runtime infers them), and constant shapes of `Reshape` and `Resize` that begin
with 1. That is not enough for every graph, so the result is run: a batch of two must give what two runs of one give.
"""

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from schemas.errors import ModelRefused
from workers.models.contract import GraphContract
from workers.models.graph_parts import (
    GRAPH,
    INITIALIZER,
    INPUT,
    INT64,
    NODE,
    OUTPUT,
    VALUE_INFO,
    int64_tensor,
    new_node,
    text_of,
)
from workers.models.protobuf import LENGTH, Field, Malformed, delimited, fields, signed, varints
from workers.models.providers import Profile
from workers.models.runtime import Network, Runtime

AXIS = "batch"
TOLERANCE = 1e-2
"""Largest difference allowed, as a share of the output's peak: kernels may differ by batch size, faces may not mix."""

_SHAPE_INPUT = {"Reshape": 1, "Resize": 3}
"""Node type → position of the input that is a shape."""


def open_batched(
    runtime: Runtime, graph: bytes, contract: GraphContract, *, label: str, profile: Profile | None = None
) -> Network:
    """Open `graph` so that its first axis takes any batch; `contract` has None there. `profile`: see `Runtime.open`.

    Raises `ModelRefused` naming `label` when the graph cannot be changed or mixes the members of a batch.
    """
    network = runtime.open(free_first_axis(graph, label=label), contract, label=label, profile=profile)
    check_batch(network, label=label)
    return network


def free_first_axis(graph: bytes, *, label: str) -> bytes:
    """Return `graph` with a free first axis. Raises `ModelRefused` when it is locked to another length than 1."""
    try:
        return b"".join(
            delimited(GRAPH, _free(field.data, label)) if field.number == GRAPH else bytes(field.raw)
            for field in fields(graph)
        )
    except Malformed as error:
        raise ModelRefused(f"{label} is not an ONNX file: {error}") from None


def check_batch(network: Network, *, label: str) -> None:
    """Raise `ModelRefused` unless a batch of two gives what two runs of one give (seeded random inputs)."""
    rng = np.random.default_rng(20)

    def sample() -> dict[str, NDArray[np.floating]]:
        feeds = {}
        for given in network.inputs:
            if given.dtype not in ("float32", "float16") or None in given.shape[1:]:
                raise ModelRefused(f"{label} cannot be batched: input {given} is not a float of known shape")
            shape = [1, *(length or 1 for length in given.shape[1:])]
            feeds[str(given.name)] = rng.random(shape, np.float32).astype(given.dtype)
        return feeds

    one, other = sample(), sample()
    alone = [np.concatenate(pair, dtype=np.float64) for pair in zip(network.run(one), network.run(other), strict=True)]
    together = network.run({name: np.concatenate([one[name], other[name]]) for name in one})
    for tensor, apart, both in zip(network.outputs, alone, together, strict=True):
        if both.shape != apart.shape:
            raise ModelRefused(
                f"{label} cannot be batched: output {tensor.name} of two is {both.shape}, {apart.shape} expected"
            )
        worst = float(np.abs(both - apart).max(initial=0)) / max(float(np.abs(apart).max(initial=0)), 1e-12)
        if not worst <= TOLERANCE:
            raise ModelRefused(
                f"{label} cannot be batched: output {tensor.name} of two differs from that of each alone by "
                f"{worst:.1%} of its peak, {TOLERANCE:.0%} allowed"
            )


def _free(graph: memoryview, label: str) -> bytes:
    parts = list(fields(graph))
    initializers = {text_of(part.data, 8): part.data for part in parts if part.number == INITIALIZER}
    inputs = {text_of(part.data, 1) for part in parts if part.number == INPUT} - set(initializers)
    nodes = [_Node(part.data) for part in parts if part.number == NODE]
    constants = initializers | {node.outputs[0]: node.constant for node in nodes if node.constant is not None}
    batched = _reached(nodes, inputs)
    out: list[bytes] = []
    for part in parts:
        if part.number == VALUE_INFO:
            continue
        if part.number == OUTPUT or (part.number == INPUT and text_of(part.data, 1) not in initializers):
            out.append(delimited(part.number, _free_value(part.data, label)))
        elif part.number == NODE:
            out += _free_node(part, constants, batched, label)
        else:
            out.append(bytes(part.raw))
    return b"".join(out)


class _Node:
    """What matters of a NodeProto: its type, names, and the tensor of a `Constant`."""

    def __init__(self, data: memoryview) -> None:
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.op = ""
        self.constant: memoryview | None = None
        self.allow_zero = False
        attributes = []
        for field in fields(data):
            match field.number:
                case 1:
                    self.inputs.append(field.text)
                case 2:
                    self.outputs.append(field.text)
                case 4:
                    self.op = field.text
                case 5:
                    attributes.append(field.data)
        for attribute in attributes:
            inner = {field.number: field for field in fields(attribute)}
            if self.op == "Constant" and 5 in inner:
                self.constant = inner[5].data
            if 1 in inner and inner[1].text == "allowzero" and 3 in inner:
                self.allow_zero = bool(inner[3].integer)


def _reached(nodes: Iterable[_Node], inputs: set[str]) -> set[str]:
    """Return the values that depend on an input; nodes come in topological order, as ONNX demands."""
    reached = set(inputs)
    for node in nodes:
        if reached.intersection(node.inputs):
            reached.update(node.outputs)
    return reached


def _free_node(part: Field, constants: dict[str, memoryview], batched: set[str], label: str) -> list[bytes]:
    """Return the fields of the graph that stand for a node: itself, or with a shape of its own that frees the batch."""
    node = _Node(part.data)
    position = _SHAPE_INPUT.get(node.op)
    if position is None or len(node.inputs) <= position or node.inputs[0] not in batched:
        return [bytes(part.raw)]
    constant = constants.get(node.inputs[position])
    shape = None if constant is None else _int64s(constant)
    if not shape or shape[0] != 1:
        return [bytes(part.raw)]
    name = f"{node.outputs[0]}__{AXIS}"
    names = [name if at == position else given for at, given in enumerate(node.inputs)]
    rest = b"".join(bytes(field.raw) for field in fields(part.data) if field.number != 1)
    renamed = delimited(NODE, b"".join(delimited(1, given.encode()) for given in names) + rest)
    if node.op == "Reshape":
        if -1 in shape and node.allow_zero:
            raise ModelRefused(f"{label} cannot be batched: a Reshape to {shape} with allowzero")
        # -1 infers the batch; where another axis is inferred, 0 copies it.
        free = [0 if -1 in shape else -1, *shape[1:]]
        return [delimited(INITIALIZER, int64_tensor(name, free)), renamed]
    # Resize knows no such signs: its size is put together from the batch of what it resizes and the rest.
    return [
        delimited(INITIALIZER, int64_tensor(f"{name}_first", [0])),
        delimited(INITIALIZER, int64_tensor(f"{name}_rest", shape[1:])),
        delimited(NODE, new_node("Shape", [node.inputs[0]], f"{name}_shape")),
        delimited(NODE, new_node("Gather", [f"{name}_shape", f"{name}_first"], f"{name}_length", axis=0)),
        delimited(NODE, new_node("Concat", [f"{name}_length", f"{name}_rest"], name, axis=0)),
        renamed,
    ]


def _free_value(value: memoryview, label: str) -> bytes:
    """Return a ValueInfoProto whose first axis is `AXIS`; path of fields: type 2, tensor 1, shape 2, axis 1."""
    name = text_of(value, 1)

    def descend(message: memoryview, path: tuple[int, ...]) -> bytes:
        out, done = [], False
        for field in fields(message):
            if done or field.number != path[0]:
                out.append(bytes(field.raw))
                continue
            if len(path) > 1:
                out.append(delimited(field.number, descend(field.data, path[1:])))
            else:
                out.append(delimited(1, _free_axis(field.data, f"{label}: {name}")))
                done = True
        return b"".join(out)

    return descend(value, (2, 1, 2, 1))


def _free_axis(axis: memoryview, what: str) -> bytes:
    for field in fields(axis):
        if field.number == 1 and field.integer != 1:
            raise ModelRefused(f"{what} cannot be batched: its first axis is locked to {field.integer}, 1 expected")
    return delimited(2, AXIS.encode())


def _int64s(tensor: memoryview) -> list[int] | None:
    """Return the values of a one-dimensional int64 TensorProto; None for any other."""
    dims: list[int] = []
    values: list[int] = []
    kind = 0
    for field in fields(tensor):
        packed = field.kind == LENGTH
        match field.number:
            case 1:
                dims += varints(field.data) if packed else [field.integer]
            case 2:
                kind = field.integer
            case 7:
                values += map(signed, varints(field.data) if packed else [field.integer])
            case 9:
                raw = bytes(field.data)
                values += struct.unpack(f"<{len(raw) // 8}q", raw[: len(raw) // 8 * 8])
    return values if kind == INT64 and len(dims) == 1 and len(values) == dims[0] else None
