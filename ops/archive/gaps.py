"""Which media a recording lacks: every accepted input has one outcome event, naming it; outputs keep its ID."""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet

from ops.archive.layout import log_time
from schemas.bus.base import Entry
from schemas.errors import CodecError
from schemas.events import EVENT, AudioProcessed, AudioSkipped, VideoDropped, VideoProcessed, metric_events
from schemas.ids import EntryId


def named_media(entry: Entry) -> list[tuple[str, EntryId]]:
    """Return the media entries that a metric event proves to have existed: (stream, ID). Empty for other events."""
    try:
        event = metric_events.decode(entry.fields.get(EVENT, b""))
        match event:
            case VideoProcessed():
                return [(stream, EntryId.parse(event.id)) for stream in ("video:in", "video:out")]
            case AudioProcessed():
                return [(stream, EntryId.parse(event.id)) for stream in ("audio:in", "audio:out")]
            case VideoDropped():
                return [("video:in", EntryId.parse(event.id))]
            case AudioSkipped():
                return [("audio:in", EntryId.parse(event.id))]
            case _:
                return []
    except CodecError:  # a newer writer's event proves nothing here
        return []


def gaps(metrics: Iterable[Entry], recorded: Mapping[str, AbstractSet[int]]) -> Iterator[str]:
    """Yield a sentence for each stream of `recorded` (its entries' log times) that lacks entries which `metrics` name.

    Times stand for IDs: they differ for the first million entries of a millisecond.
    """
    missing: dict[str, set[EntryId]] = {stream: set() for stream in recorded}
    for entry in metrics:
        for stream, entry_id in named_media(entry):
            if stream in recorded and log_time(entry_id) not in recorded[stream]:
                missing[stream].add(entry_id)
    for stream, ids in missing.items():
        if ids:
            yield f"{stream}: {len(ids)} entries are missing, from {min(ids)} to {max(ids)}"
