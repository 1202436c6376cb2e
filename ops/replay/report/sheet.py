"""The contact sheet: frames before and after, side by side, from a recorded session's video."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ops.archive.model import RecordedSession
from schemas.bus.base import Entry
from schemas.errors import CodecError
from schemas.ids import EntryId
from schemas.media import MediaEntry, unpack

PAIRS = 8
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

    Only inputs that have an output are shown. Reads each stream once and keeps single frames in memory.
    """
    outputs = dict(_spread(session.entries("video:out"), start_ms, length_ms))
    found = []
    for entry in session.entries("video:in"):
        after = outputs.get(entry.id)
        if after is None:
            continue
        try:
            before = unpack(entry.id, entry.fields)
        except CodecError:
            continue
        small = _small(before.data), _small(after.data)
        if small[0] and small[1]:
            found.append(Pair(max(0, entry.id.ms - start_ms), after.header.rung, small[0], small[1]))
    return found


def _spread(entries: Iterable[Entry], start_ms: int, length_ms: int) -> Iterator[tuple[EntryId, MediaEntry]]:
    """Yield the first readable output of each of `PAIRS` equal parts of the session."""
    due = 0
    for entry in entries:
        part = min(PAIRS - 1, (entry.id.ms - start_ms) * PAIRS // length_ms)
        if part < due:
            continue
        try:
            yield entry.id, unpack(entry.id, entry.fields)
        except CodecError:
            continue
        due = part + 1


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
