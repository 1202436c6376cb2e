"""The binary messages: one form, and typed errors for everything else."""

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import CodecError, InputRejected
from schemas.wire import MAX_PTS_US, MAX_SEQ, OVERHEAD_BYTES, MediaMessage, MediaType, decode, encode


@given(
    st.sampled_from(MediaType), st.integers(-MAX_PTS_US, MAX_PTS_US), st.integers(0, MAX_SEQ), st.binary(max_size=64)
)
def test_what_is_encoded_is_decoded(kind: MediaType, pts_us: int, seq: int, data: bytes) -> None:
    message = MediaMessage(kind, pts_us, seq, data)
    raw = encode(message)
    assert decode(raw, max_bytes=64) == message
    assert len(raw) <= len(data) + OVERHEAD_BYTES


@pytest.mark.parametrize(
    "value",
    [
        [],
        [1, 0, 0],
        [1, 0, 0, b"x", 1],
        [3, 0, 0, b"x"],
        [0, 0, 0, b"x"],
        [True, 0, 0, b"x"],
        ["1", 0, 0, b"x"],
        [1, 0.5, 0, b"x"],
        [1, None, 0, b"x"],
        [1, 0, -1, b"x"],
        [1, 0, 1.0, b"x"],
        [1, 0, MAX_SEQ + 1, b"x"],
        [1, MAX_PTS_US + 1, 0, b"x"],
        [1, -MAX_PTS_US - 1, 0, b"x"],
        [1, 0, 0, "x"],
        [1, 0, 0, [1]],
        [1, 0, 0, None],
        {"type": 1},
        1,
    ],
)
def test_anything_else_is_a_codec_error(value: Any) -> None:
    with pytest.raises(CodecError):
        decode(msgspec.msgpack.encode(value), max_bytes=64)


def test_payload_limit_is_exact() -> None:
    def message(size: int) -> bytes:
        return encode(MediaMessage(MediaType.VIDEO, MAX_PTS_US, MAX_SEQ, bytes(size)))

    decode(message(1000), max_bytes=1000)
    for size in (1001, 1050):
        with pytest.raises(InputRejected) as caught:
            decode(message(size), max_bytes=1000)
        assert caught.value.code == "too_large"


@given(st.binary(max_size=80))
def test_noise_is_refused_with_a_typed_error(noise: bytes) -> None:
    with contextlib.suppress(InputRejected):
        decode(noise, max_bytes=64)
