"""Parts of an ONNX graph as protobuf bytes, for the few edits that are made when a graph is opened.

Field numbers are those of `onnx.proto` (IR version 10).
"""

import struct

from workers.models.protobuf import delimited, fields, number

GRAPH, OPSET = 7, 8  # of ModelProto
NODE, INITIALIZER, INPUT, OUTPUT, VALUE_INFO = 1, 5, 11, 12, 13  # of GraphProto
FLOAT, UINT8, INT64 = 1, 2, 7  # of TensorProto.DataType
_INT_ATTRIBUTE, _INTS_ATTRIBUTE = 2, 7  # of AttributeProto.AttributeType


def new_node(op: str, inputs: list[str], output: str, **integers: int | list[int]) -> bytes:
    """Return a NodeProto with attributes that are integers or lists of them."""
    data = b"".join(delimited(1, given.encode()) for given in inputs)
    data += delimited(2, output.encode()) + delimited(4, op.encode())
    for name, value in integers.items():
        if isinstance(value, int):
            held = number(3, value) + number(20, _INT_ATTRIBUTE)
        else:
            held = b"".join(number(8, each) for each in value) + number(20, _INTS_ATTRIBUTE)
        data += delimited(5, delimited(1, name.encode()) + held)
    return data


def int64_tensor(name: str, values: list[int]) -> bytes:
    """Return a one-dimensional TensorProto of int64."""
    raw = struct.pack(f"<{len(values)}q", *values)
    return number(1, len(values)) + number(2, INT64) + delimited(8, name.encode()) + delimited(9, raw)


def float_scalar(name: str, value: float) -> bytes:
    """Return a TensorProto of one float32 without axes."""
    return number(2, FLOAT) + delimited(8, name.encode()) + delimited(9, struct.pack("<f", value))


def text_of(message: memoryview, field_number: int) -> str:
    """Return the text in the first field of that number, "" where there is none."""
    return next((field.text for field in fields(message) if field.number == field_number), "")
