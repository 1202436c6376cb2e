"""The base of every message: a frozen MessagePack map with a version and a tag, which validates itself.

    {"t": "video_processed", "v": 1, …}

Unknown fields are ignored (a newer writer may add some); an unknown version is refused, because a version changes when
the meaning of a known field does. Fields are written in declaration order, so equal messages are equal bytes.
"""

from functools import cache
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from schemas.errors import CodecError

VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=0)]
"""A whole number, zero or more: counts, sizes, microseconds, milliseconds, per mille."""


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=_snake, tag_field="t"):
    """A versioned message. Subclasses add fields; construction and decoding both check them."""

    SPEAKS: ClassVar[int] = VERSION
    v: int = VERSION

    def __post_init__(self) -> None:
        """Check what a type alone cannot; raises ValueError, which decoding turns into `CodecError`."""
        if self.v != self.SPEAKS:
            raise ValueError(f"version {self.v} of {type(self).__name__} is not known; this build speaks {self.SPEAKS}")
        for name in _counts(type(self)):
            value = getattr(self, name)
            if value.__class__ is not int or value < 0:
                raise ValueError(f"{type(self).__name__}.{name} is {value!r}; expected a whole number >= 0")


@cache
def _counts(kind: type[Message]) -> tuple[str, ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        name
        for name, hint in hints.items()
        if get_origin(hint) is Annotated and get_args(hint)[0] is int and name in kind.__struct_fields__
    )


_encoder = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """Return the canonical MessagePack map of `message`."""
    return _encoder.encode(message)


def as_json(message: Message) -> dict[str, Any]:
    """Return `message` as JSON-ready types, for people; machines compare the MessagePack form."""
    built: dict[str, Any] = msgspec.to_builtins(message)
    return built


class _Envelope(msgspec.Struct):
    t: str = ""
    v: int = VERSION


_envelope = msgspec.msgpack.Decoder(_Envelope)


def refusal(data: bytes, error: Exception) -> CodecError:
    """Return the clear form of a decoding error: a foreign version or tag is named before any field is."""
    try:
        envelope = _envelope.decode(data)
    except (msgspec.DecodeError, ValueError):  # invalid UTF-8 is a ValueError only
        return CodecError(f"not a Mirage message: {error}")
    if envelope.v != VERSION:
        return CodecError(f"message {envelope.t!r} has version {envelope.v}; this build speaks version {VERSION}")
    return CodecError(f"message {envelope.t!r} is invalid: {error}")


F = TypeVar("F")


class Family(Generic[F]):
    """A closed set of messages that travel on one stream; decoding picks the type by its tag."""

    def __init__(self, union: Any) -> None:
        """Take the union of the family's message types."""
        self._decoder = msgspec.msgpack.Decoder(union)

    def decode(self, data: bytes) -> F:
        """Return the message in `data`; raises `CodecError` that says what was wrong."""
        try:
            decoded: F = self._decoder.decode(data)
        except (msgspec.DecodeError, ValueError) as error:
            raise refusal(data, error) from None
        return decoded
