"""Protocol buffers at the level of the wire: enough to look into ONNX files and to change a few fields of them.

The `onnx` package would load every weight to change one axis, and would be a dependency of production for nothing
else. Fields that are not touched are copied as the bytes they were. The format: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator
from dataclasses import dataclass

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are not a protobuf message."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `value`: the number of a varint, the raw bytes of everything else; `raw`: the field with its tag."""

    number: int
    kind: int
    value: int | memoryview
    raw: memoryview

    @property
    def data(self) -> memoryview:
        """Return the bytes of a length-delimited field; raises `Malformed` for a number."""
        if isinstance(self.value, int) or self.kind != LENGTH:
            raise Malformed(f"field {self.number} should hold bytes")
        return self.value

    @property
    def integer(self) -> int:
        """Return the number of a varint field; raises `Malformed` for bytes."""
        if not isinstance(self.value, int):
            raise Malformed(f"field {self.number} should hold a number")
        return self.value

    @property
    def text(self) -> str:
        """Return the text of a length-delimited field."""
        try:
            return bytes(self.data).decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed(f"field {self.number} should hold text") from None


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """Yield the fields of `message` in order, without copying. Raises `Malformed`, also for the old group types."""
    view = memoryview(message)
    at = 0
    while at < len(view):
        start = at
        tag, at = _varint(view, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("a field has no number")
        if kind == VARINT:
            value, at = _varint(view, at)
            yield Field(number, kind, value, view[start:at])
            continue
        if kind == LENGTH:
            length, at = _varint(view, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise Malformed(f"field {number} has wire type {kind}")
        if at + length > len(view):
            raise Malformed(f"field {number} ends {at + length - len(view)} bytes behind the message")
        yield Field(number, kind, view[at : at + length], view[start : at + length])
        at += length


def varints(packed: memoryview) -> Iterator[int]:
    """Yield the numbers of a packed field, as unsigned 64-bit."""
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def signed(value: int) -> int:
    """Return an unsigned 64-bit varint as the int64 it stands for."""
    return value - (1 << 64) if value >> 63 else value


def number(field: int, value: int) -> bytes:
    """Return varint field `field`; a negative value is written as int64, in ten bytes."""
    return _encode(field << 3 | VARINT) + _encode(value & (1 << 64) - 1)


def delimited(field: int, data: bytes | memoryview) -> bytes:
    """Return length-delimited field `field`."""
    return b"".join((_encode(field << 3 | LENGTH), _encode(len(data)), data))


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise Malformed("the message ends inside a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise Malformed("a number is longer than ten bytes")
