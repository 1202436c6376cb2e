"""Reads back what is already settled of a session's input, so that a new owner repeats nothing and forgets nothing.

The output stream and the reported outcomes are the checkpoint. A predecessor may have published outputs whose outcome
it did not live to report: each output entry carries its outcome event, so the new owner reports it in its own name.
"""

from msgspec.structs import replace

from schemas.bus.base import Fields, Planes
from schemas.events import (
    EVENT,
    AudioProcessed,
    AudioSkipped,
    MetricEvent,
    Outcome,
    VideoDropped,
    VideoProcessed,
    metric_events,
)
from schemas.ids import ZERO, EntryId
from schemas.media import OUTCOME
from schemas.message import encode

VIDEO_OUTCOMES = (VideoProcessed, VideoDropped)
AUDIO_OUTCOMES = (AudioProcessed, AudioSkipped)

_PAGE = 256


async def last_reported(planes: Planes, metrics: str, kinds: tuple[type[Outcome], ...]) -> EntryId:
    """Return the input ID of the newest outcome of `kinds` on the metrics stream; 0-0 when there is none."""
    until: EntryId | None = None
    while True:
        page = await planes.events.entries(metrics, until=until, count=_PAGE, newest_first=True)
        reported = [
            EntryId.parse(event.id)
            for entry in page
            if isinstance(event := metric_events.decode(entry.fields[EVENT]), kinds)
        ]
        if reported:
            # Not the page's first: a zombie may have reported an older input last.
            return max(reported)
        if len(page) < _PAGE:
            return ZERO
        oldest = page[-1].id
        if oldest == until:
            return ZERO
        until = oldest


async def unreported(planes: Planes, output: str, *, after: EntryId, epoch: int) -> list[Fields]:
    """Return the outcome events, as `epoch`'s, of outputs after `after` that nobody reported."""
    fields: list[Fields] = []
    for entry in await planes.media.entries(output, after=after):
        event: MetricEvent = metric_events.decode(entry.fields[OUTCOME])
        if isinstance(event, Outcome):
            fields.append({EVENT: encode(replace(event, epoch=epoch))})
    return fields
