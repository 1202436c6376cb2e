"""The JPEG guard: real pictures pass, everything that makes a decoder suffer does not."""

import struct
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.jpeg_guard import JpegInfo, check_jpeg
from schemas.errors import InputRejected
from tests.ingress.client import jpeg


def picture(*options: int, grey: bool = False, size: tuple[int, int] = (96, 64)) -> bytes:
    """Encode noise."""
    shape = (size[1], size[0]) if grey else (size[1], size[0], 3)
    noise = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    return cv2.imencode(".jpg", noise, options)[1].tobytes()


def check(data: bytes, **limits: int) -> JpegInfo:
    """Check with the limits of the service."""
    return check_jpeg(data, **{"max_bytes": 262_144, "max_long_side": 1920, "max_short_side": 1080, **limits})


def sof(data: bytes) -> int:
    """Return where the frame header's content begins."""
    return data.index(b"\xff\xc0") + 4


def patched(data: bytes, at: int, value: bytes) -> bytes:
    """Replace bytes."""
    return data[:at] + value + data[at + len(value) :]


SOS = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
GOOD = picture()


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        picture(grey=True),
        picture(cv2.IMWRITE_JPEG_RST_INTERVAL, 2),
        picture(cv2.IMWRITE_JPEG_QUALITY, 100),
        picture(cv2.IMWRITE_JPEG_OPTIMIZE, 1),
        picture(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        picture(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422),
        jpeg(size=(1920, 1080)),
    ],
)
def test_what_cameras_and_browsers_send_passes(data: bytes) -> None:
    info = check(data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    assert (info.height, info.width) == decoded.shape[:2]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "begin"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "begin"),
        (GOOD[:-100], "truncated"),
        (GOOD[: GOOD.index(b"\xff\xda") + 4] + b"\xff\xd9", "past its end"),
        (GOOD[: GOOD.index(b"\xff\xc0")] + b"\xff\xd9", "no marker|in its header"),
        (b"\xff\xd8\xff\xd9", "no marker|in its header"),
        (picture(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), "progressive"),
        (GOOD[:-2] + SOS + b"\x00" + b"\xff\xd9", "follows its first scan"),
        (GOOD[:-2] + b"\xff\xd9" + GOOD, "follows its first scan"),
        (GOOD + b"\xff\xd9", "follows its first scan"),
        (patched(GOOD, sof(GOOD) - 3, b"\xc9"), "not baseline"),
        (patched(GOOD, sof(GOOD) - 3, b"\xc3"), "lossless"),
        (patched(GOOD, sof(GOOD), b"\x0c"), "12 bits"),
        (patched(GOOD, sof(GOOD) + 1, struct.pack(">HH", 65500, 65500)), "65500x65500"),
        (patched(GOOD, sof(GOOD) + 1, struct.pack(">HH", 0, 96)), "96x0"),
        (patched(GOOD, sof(GOOD) + 5, b"\x04"), "4 components"),
        (patched(GOOD, sof(GOOD) + 7, b"\x41"), "sampling 4x1"),
        (patched(GOOD, GOOD.index(b"\xff\xda") + 4, b"\x01"), "all of its components"),
        (GOOD[:2] + b"\xff\xfe\x00\x02" * 64 + GOOD[2:], "more than 64"),
        (GOOD[:2] + b"\xff\xe0\x00\x01" + GOOD[2:], "past its end"),
        (jpeg(size=(1921, 1080)), "1921x1080"),
        (jpeg(size=(1920, 1081)), "1920x1081"),
        (jpeg(size=(15, 64)), "15x64"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, says: str) -> None:
    with pytest.raises(InputRejected, match=says) as caught:
        check(data)
    assert caught.value.code == "bad_frame"


def test_size_limit_is_exact() -> None:
    check(GOOD, max_bytes=len(GOOD))
    with pytest.raises(InputRejected) as caught:
        check(GOOD, max_bytes=len(GOOD) - 1)
    assert caught.value.code == "too_large"


def test_cmyk_is_refused() -> None:
    header = struct.pack(">BHHB", 8, 64, 64, 4) + b"".join(bytes([i, 0x11, 0]) for i in range(4))
    with pytest.raises(InputRejected, match="4 components"):
        check(b"\xff\xd8\xff\xc0" + struct.pack(">H", 2 + len(header)) + header + b"\xff\xd9")


@given(st.binary(max_size=400), st.integers(0, 300))
def test_whatever_comes_only_typed_errors_leave(noise: bytes, at: int) -> None:
    for data in (noise, b"\xff\xd8\xff" + noise + b"\xff\xd9", patched(GOOD, at, noise)):
        try:
            check(data)
        except InputRejected as error:
            assert error.code in ("bad_frame", "too_large")  # noqa: PT017


def test_fill_bytes_before_a_marker_pass_and_cost_nothing() -> None:
    assert check(GOOD[:2] + b"\xff" * 100_000 + GOOD[2:]) == check(GOOD)
    endless = GOOD[:2] + b"\xff" * 260_000 + b"\xff\xd9"
    with pytest.raises(InputRejected):
        check(endless)
    assert lines_run(lambda: check(GOOD[:2] + b"\xff" * 200_000 + GOOD[2:])) <= lines_run(lambda: check(GOOD)) + 10


def lines_run(work: Callable[[], object]) -> int:
    """Count the lines that `work` runs: what it costs on any machine."""
    lines, before = 0, sys.gettrace()

    def trace(_: FrameType, what: str, __: object) -> Any:
        nonlocal lines
        lines += what == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
