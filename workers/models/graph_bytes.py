"""Looks into an ONNX file before ONNX Runtime does: what it refers to outside itself, and which element types it has.

A graph may keep weights in other files, by relative path. ONNX Runtime would open those from the working directory when
it is given bytes, so a model from the network could read whatever lies there: such graphs are refused.
"""

from dataclasses import dataclass

from schemas.errors import ModelRefused
from workers.models.protobuf import Malformed, fields

_FLOAT16, _EXTERNAL = 10, 1

# Message → field → message inside it: where tensors can hide. Numbers from onnx.proto (IR version 10).
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What was seen on the way through a graph."""

    half: bool
    """It has float16 weights."""


def inspect(graph: bytes, *, label: str) -> GraphFacts:
    """Return facts of an ONNX file that stands on its own.

    Raises `ModelRefused` naming `label` when it is not ONNX, keeps tensors elsewhere, or holds a compiled engine.
    """
    try:
        return _inspect(graph, label)
    except Malformed as error:
        raise ModelRefused(f"{label} is not an ONNX file: {error}") from None


def _inspect(graph: bytes, label: str) -> GraphFacts:
    half, graphs = False, 0
    pending: list[tuple[str, memoryview]] = [("model", memoryview(graph))]  # a stack: nesting must not exhaust Python's
    while pending:
        kind, message = pending.pop()
        if kind == "tensor":
            half |= _tensor(message, label)
            continue
        for field in fields(message):
            if kind == "node" and field.number == 4 and field.text == "EPContext":
                raise ModelRefused(f"{label} holds an engine compiled elsewhere (EPContext); give the original graph")
            inside = _INSIDE[kind].get(field.number)
            if inside is not None:
                graphs += kind == "model" and inside == "graph"
                pending.append((inside, field.data))
    if graphs != 1:
        raise ModelRefused(f"{label} is not an ONNX file: {graphs} graphs in it, 1 expected")
    return GraphFacts(half)


def _tensor(message: memoryview, label: str) -> bool:
    """Refuse a tensor that is kept elsewhere; returns whether it is float16."""
    name, where, half, external = "", "", False, False
    for field in fields(message):
        match field.number:
            case 2:
                half = field.integer == _FLOAT16
            case 8:
                name = field.text
            case 13:
                external = True
                pair = {inner.number: inner.text for inner in fields(field.data)}
                where = pair.get(2, "") if pair.get(1) == "location" else where
            case 14:
                external |= field.integer == _EXTERNAL
    if external:
        raise ModelRefused(
            f"{label} keeps tensor {name!r} in another file ({where!r}); give a graph that holds its weights"
        )
    return half
