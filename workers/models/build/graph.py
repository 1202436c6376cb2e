"""Write ONNX graphs by hand, and bring any graph into one canonical form so that a rebuild gives the same bytes.

tf2onnx numbers its tensors in an order that changes from run to run. `canonical` keeps what the outputs need, orders
it depth first from the outputs and renames it by position, so equal graphs serialise equally.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET = 17
IR_VERSION = 8
_HALF_FROM = 256  # values; below this a Cast node weighs more than fp16 storage saves


class Builder:
    """Collects nodes and constants under fresh names. Every method returns the name of the tensor it made."""

    def __init__(self, prefix: str) -> None:
        """Start empty; `prefix` begins every fresh name and must be new to the graph the nodes go into."""
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """Add an initialiser."""
        name = f"{self._prefix}/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def indices(self, *value: int) -> str:
        """Add a one-dimensional int64 initialiser: axes, shapes, slice bounds."""
        return self.constant(value, np.int64)

    def op(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node with one output, named `output` or afresh."""
        output = output or f"{self._prefix}/value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output


def as_array(tensor: onnx.TensorProto) -> np.ndarray:
    """Return the values of an initialiser."""
    return np.asarray(numpy_helper.to_array(tensor))


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return every initialiser of `model` by name."""
    return {tensor.name: as_array(tensor) for tensor in model.graph.initializer}


def producers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Return the node that makes each tensor, by tensor name."""
    return {name: node for node in model.graph.node for name in node.output}


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of `node` as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def canonical(model: onnx.ModelProto, *, lossy_half: bool = False) -> onnx.ModelProto:
    """Return `model` pruned, ordered and renamed by position, with its large weights stored as fp16.

    A weight is stored as fp16 where that loses nothing (Google's TFLite files hold fp16 to begin with) or where
    `lossy_half` allows it. A Cast restores fp32; ONNX Runtime folds it when the session opens, so arithmetic, and
    speed, stay those of fp32. Inputs and outputs keep their names.
    """
    onnx.checker.check_model(model)  # a name made twice would be a cycle below
    made = producers(model)
    weights = constants(model)
    names = {value.name: value.name for value in (*model.graph.input, *model.graph.output)}
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def use_weight(name: str) -> None:
        value = weights[name]
        stored = f"w{len(tensors)}"
        half = value.astype(np.float16)
        exact = np.array_equal(half.astype(np.float32), value)
        if value.dtype == np.float32 and value.size >= _HALF_FROM and (exact or lossy_half):
            names[name] = f"{stored}_fp32"
            tensors.append(numpy_helper.from_array(half, stored))
            nodes.append(helper.make_node("Cast", [stored], [names[name]], names[name], to=onnx.TensorProto.FLOAT))
        else:
            names[name] = stored
            tensors.append(numpy_helper.from_array(value, stored))

    def use_node(node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        del copy.input[:], copy.output[:]
        copy.input.extend(names[name] if name else "" for name in node.input)
        for name in node.output:
            names.setdefault(name, f"v{len(nodes)}_{len(copy.output)}" if name else "")
            copy.output.append(names[name])
        copy.name = next(filter(None, copy.output))
        copy.doc_string = ""
        nodes.append(copy)

    done: set[str] = {value.name for value in model.graph.input}
    todo = [value.name for value in reversed(model.graph.output)]
    while todo:  # depth first without recursion: attention graphs are deeper than Python's stack
        name = todo[-1]
        waiting = [i for i in made[name].input if i and i not in done] if name in made and name not in done else []
        if waiting:
            todo.extend(reversed(waiting))
            continue
        todo.pop()
        if name in done:
            continue
        if name in made:
            use_node(made[name])
            done.update(made[name].output)
        else:
            use_weight(name)
            done.add(name)

    graph = helper.make_graph(nodes, "mirage", list(model.graph.input), list(model.graph.output), tensors)
    result = helper.make_model(
        graph, producer_name="mirage", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    onnx.checker.check_model(result, full_check=True)
    return result


def to_bytes(model: onnx.ModelProto) -> bytes:
    """Serialise `model`, the same way every time."""
    return bytes(model.SerializeToString(deterministic=True))
