"""The contact sheet: frames before and after, side by side, from a recorded session's video."""

import base64
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from ops.archive.model import RecordedSession
from schemas.bus.base import Entry
from schemas.errors import CodecError
from schemas.ids import EntryId
from schemas.media import unpack

PAIRS = 8
_TRIES = 20
"""Outputs that are looked at for one pair, until one and its input are pictures."""
_LAST_N = 2**64 - 1
_LONGER_SIDE = 320
_QUALITY = 70
_MOST_BYTES = 90_000
"""Of one picture; 16 of them leave a report under 2 MB."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One moment: what came in and what went out, as small JPEGs."""

    at_ms: int
    """Since the session's first event."""
    rung: int
    before: bytes
    after: bytes


def pairs(session: RecordedSession, *, start_ms: int, length_ms: int) -> list[Pair]:
    """Return up to `PAIRS` moments, evenly spread; empty where no video was recorded.

    Only inputs that have an output are shown. Seeks each moment, and keeps single frames in memory.
    """
    borders = [start_ms + length_ms * part // PAIRS for part in range(PAIRS + 1)]
    found = (_first(session, begin, end) for begin, end in pairwise(borders))
    return [replace(pair, at_ms=max(0, pair.at_ms - start_ms)) for pair in found if pair is not None]


def _first(session: RecordedSession, begin_ms: int, end_ms: int) -> Pair | None:
    """Return the first pair of a stretch of time; its `at_ms` is the time of its ID."""
    for output in islice(session.entries("video:out", after=EntryId(begin_ms - 1, _LAST_N)), _TRIES):
        if output.id.ms >= end_ms:
            break
        just_before = EntryId(output.id.ms, output.id.n - 1) if output.id.n else EntryId(output.id.ms - 1, _LAST_N)
        entry = next(session.entries("video:in", after=just_before), None)
        if entry is not None and entry.id == output.id and (pair := _pair(entry, output)) is not None:
            return pair
    return None


def _pair(entry: Entry, output: Entry) -> Pair | None:
    try:
        before, after = unpack(entry.id, entry.fields), unpack(output.id, output.fields)
    except CodecError:
        return None
    small = _small(before.data), _small(after.data)
    return Pair(entry.id.ms, after.header.rung, *small) if all(small) else None


def _small(jpeg: bytes) -> bytes:
    """Return the picture made small; empty when it is none, or will not become small enough."""
    import cv2  # noqa: PLC0415 - only reports with pictures need it
    import numpy as np  # noqa: PLC0415

    if not jpeg:
        return b""
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return b""
    shrink = min(1.0, _LONGER_SIDE / max(picture.shape[:2]))
    picture = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    done, made = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return made.tobytes() if done and made.size <= _MOST_BYTES else b""


def source(jpeg: bytes) -> str:
    """Return a picture as the source of an image on the page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
