"""Templates of the neural engine: what goes in comes out, and nothing else is taken."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import InputRejected
from workers.video.neural.template import MAX_BYTES, NeuralTemplate, decode, emap_digest, encode
from workers.video.pixels import Float, f32


def unit(seed: int) -> Float:
    values = np.random.default_rng(seed).standard_normal(512)
    return f32(values / np.linalg.norm(values))


TEMPLATE = NeuralTemplate(unit(0), unit(1), emap_digest(np.eye(512, dtype=np.float32)))


def rewritten(**changes: object) -> bytes:
    fields = msgspec.msgpack.decode(encode(TEMPLATE))
    return msgspec.msgpack.encode(fields | changes)


def test_a_template_survives_its_bytes() -> None:
    again = decode(encode(TEMPLATE))
    np.testing.assert_array_equal(again.embedding, TEMPLATE.embedding)
    np.testing.assert_array_equal(again.latent, TEMPLATE.latent)
    assert again.emap == TEMPLATE.emap


@pytest.mark.parametrize(
    ("blob", "complaint"),
    [
        (b"", "not a template of the neural engine"),
        (b"\x00" * (MAX_BYTES + 1), "bytes, at most"),
        (rewritten(format="mirage.face.embedded"), "its format is"),
        (rewritten(version=2), "enrol the portrait again"),
        (rewritten(latent=b"\x00" * 2048), "damaged"),
        (rewritten(more=1), "not a template of the neural engine"),
        (encode(NeuralTemplate(unit(0)[:100], unit(1), b"")), "its embedding is not 512"),
        (encode(NeuralTemplate(unit(0) * 2, unit(1), b"")), "its embedding is not 512"),
        (encode(NeuralTemplate(unit(0), unit(1) * np.float32(np.nan), b"")), "its latent is not 512"),
    ],
)
def test_what_is_not_a_template_is_refused_by_what_is_wrong(blob: bytes, complaint: str) -> None:
    with pytest.raises(InputRejected, match=complaint) as refused:
        decode(blob)
    assert refused.value.code == "template_invalid"


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_refused(blob: bytes) -> None:
    with pytest.raises(InputRejected):
        decode(blob)


@given(st.integers(0, len(encode(TEMPLATE)) - 1), st.integers(1, 255))
def test_one_changed_byte_is_noticed(place: int, change: int) -> None:
    blob = bytearray(encode(TEMPLATE))
    blob[place] ^= change
    with pytest.raises(InputRejected):
        decode(bytes(blob))
