"""What travels on the media plane: a header and a payload, as two fields of one stream entry."""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from schemas.errors import CodecError
from schemas.ids import EntryId
from schemas.message import Count, Family, Message, encode

SAMPLE_RATE = 16_000
"""Samples a second of all sound: PCM16, mono."""

VOICE_ON, VOICE_SILENT, VOICE_THROUGH = "on", "silent", "through"

HEADER, DATA, OUTCOME = b"h", b"d", b"o"
"""Field names: header, payload, and (on outputs) the outcome event, which a successor can report for a dead worker."""


class Place(NamedTuple):
    """Where the face that wears one of a session's identities was last."""

    slot: int
    """Position of the identity among those that are worn."""
    x_pm: int
    y_pm: int
    """Middle of the face, per mille of the picture's width and height."""


class MediaHeader(Message, frozen=True, kw_only=True):
    """Describes one frame or chunk, with the parameters in force when ingress accepted it."""

    pts_us: int
    """Media time of what is in the payload; for converted sound, of that sound (so lookahead can put it below 0)."""
    sent_us: Count
    """Wall time at which the writer sent it, for display only: two machines' clocks are never compared."""
    rung: Count = 0
    quality: Count = 85
    """JPEG quality of the output."""
    size: Count = 512
    """Longer side of the output frame in pixels; 0 keeps the input's size."""
    fps: Count = 20
    chunk_ms: Count = 192
    voice: str = VOICE_ON
    """What becomes of this chunk: `on`, converted; `silent` or `through` after the policy's `VoiceFailed`."""
    trace: str = ""
    enc: str = ""
    """Reserved for payload encryption; empty means plain."""
    worn: tuple[str, ...] | None = None
    """On outputs: the identities that the worker had in force, empty for none. A change reaches a worker while it
    works, so only the output can tell which input was the first to wear it."""
    places: tuple[Place, ...] = ()
    """On pictures of faces that do not all wear the same: where each was last, for whoever takes the session over."""


class MediaEntry(NamedTuple):
    """One decoded media entry. The payload is never re-encoded by the codec."""

    id: EntryId
    header: MediaHeader
    data: bytes


_headers: Family[MediaHeader] = Family(MediaHeader)


def pack(header: MediaHeader, data: bytes, outcome: Message | None = None) -> dict[bytes, bytes]:
    """Return the stream fields of a media entry."""
    fields = {HEADER: encode(header), DATA: data}
    if outcome is not None:
        fields[OUTCOME] = encode(outcome)
    return fields


def unpack(entry_id: EntryId, fields: Mapping[bytes, bytes]) -> MediaEntry:
    """Read a media entry; raises `CodecError` when a field is missing or the header is not one."""
    try:
        header, data = fields[HEADER], fields[DATA]
    except KeyError as missing:
        raise CodecError(f"media entry {entry_id} has no field {missing}") from None
    return MediaEntry(entry_id, _headers.decode(header), data)


def output_header(
    source: MediaHeader, *, pts_us: int, sent_us: int, worn: tuple[str, ...], places: tuple[Place, ...] = ()
) -> MediaHeader:
    """Return the header of what a worker made from `source`: the same parameters in force, its own times."""
    return replace(source, pts_us=pts_us, sent_us=sent_us, worn=worn, places=places)


def pcm_duration_us(data: bytes) -> int:
    """Return how long PCM16 mono bytes last, in microseconds."""
    return len(data) // 2 * 1_000_000 // SAMPLE_RATE
