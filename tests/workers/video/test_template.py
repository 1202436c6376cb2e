"""Templates: what is written is read, and nothing else is."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputRejected
from workers.video import template as codec
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import FaceSettings, Frame


def test_a_template_survives_the_way(template: bytes) -> None:
    once = codec.decode(template)
    again = codec.decode(codec.encode(once))
    np.testing.assert_array_equal(once.picture, again.picture)
    np.testing.assert_array_equal(once.points, again.points)
    assert once.points.shape == (468, 2)


def test_enrolling_twice_gives_the_same_bytes(engine: EmbeddedFaceEngine, portrait: Frame, template: bytes) -> None:
    assert engine.enrol(portrait) == template


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(InputRejected) as refusal:
        codec.decode(blob)
    assert refusal.value.code == "template_invalid"


def test_a_template_with_a_damaged_byte_is_refused(template: bytes) -> None:
    for at in [*range(100), *range(100, len(template), 97)]:
        damaged = bytearray(template)
        damaged[at] ^= 1 + at % 255
        with pytest.raises(InputRejected, match="template cannot be used"):
            codec.decode(bytes(damaged))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "mirage.face.neural"}, "format"),
        ({"version": 2}, "enrol the portrait again"),
        ({"points": b"\0" * 8}, "468 finite points"),
        ({"points": np.full((468, 2), np.nan, "<f4").tobytes()}, "468 finite points"),
        ({"points": np.full((468, 2), 1e6, "<f4").tobytes()}, "outside its picture"),
        ({"picture": b"GIF89a" + b"\0" * 40}, "not a PNG"),
        ({"picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60_000).to_bytes(4, "big") * 2}, "60000x60000"),
        ({"picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (128).to_bytes(4, "big") * 2}, "cannot be decoded"),
        ({"extra": 1}, "not a template"),
    ],
)
def test_a_refusal_says_what_is_wrong(template: bytes, change: dict[str, object], says: str) -> None:
    fields = msgspec.msgpack.decode(template) | change
    fields["digest"] = codec.content_digest(fields["picture"], fields["points"])
    with pytest.raises(InputRejected, match=says):
        codec.decode(msgspec.msgpack.encode(fields))


def test_a_huge_blob_is_refused_unread() -> None:
    with pytest.raises(InputRejected, match="at most"):
        codec.decode(bytes(codec.MAX_BYTES + 1))


def test_open_refuses_what_is_not_a_template(engine: EmbeddedFaceEngine) -> None:
    with pytest.raises(InputRejected, match="template cannot be used"):
        engine.open(FaceSettings(), [b"not a template"])
