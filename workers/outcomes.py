"""Reads back what is already settled of a session's input, so that a new owner repeats nothing and forgets nothing.

The output stream and the reported outcomes are the checkpoint. A predecessor may have published outputs whose outcome
it did not live to report: each output entry carries its outcome event, so the new owner reports it in its own name.
"""

from msgspec.structs import replace

from schemas.bus.base import Fields, Planes
from schemas.errors import CodecError
from schemas.events import (
    EVENT,
    AudioProcessed,
    AudioSkipped,
    MetricEvent,
    Outcome,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
    metric_events,
)
from schemas.ids import ZERO, EntryId
from schemas.media import OUTCOME
from schemas.message import encode
from schemas.names import Kind

OUTCOMES: dict[Kind, tuple[type[Outcome], ...]] = {
    Kind.VIDEO: (VideoProcessed, VideoDropped),
    Kind.VOICE: (AudioProcessed, AudioSkipped),
}

_PAGE = 256


async def last_reported(planes: Planes, metrics: str, kind: Kind) -> EntryId:
    """Return the greatest input ID whose outcome of `kind` counts; 0-0 when there is none.

    An outcome counts when its epoch is not below that of the last `WorkerTook` before it: what a zombie reports after
    it was fenced off is not settled, and its successor reports it again.
    """
    outcomes = OUTCOMES[kind]
    since_took: list[Outcome] = []  # read backwards: whether they count shows at the `WorkerTook` before them
    until: EntryId | None = None
    while True:
        page = await planes.events.entries(metrics, until=until, count=_PAGE, newest_first=True)
        for entry in page:
            event = _readable(entry.fields[EVENT])
            if isinstance(event, outcomes):
                since_took.append(event)
            elif isinstance(event, WorkerTook) and event.kind == kind:
                counting = [EntryId.parse(outcome.id) for outcome in since_took if outcome.epoch >= event.epoch]
                if counting:
                    return max(counting)
                since_took.clear()
        if len(page) < _PAGE:
            return ZERO
        until = before(page[-1].id)


def before(entry_id: EntryId) -> EntryId:
    """Return the greatest ID below `entry_id`."""
    return EntryId(entry_id.ms, entry_id.n - 1) if entry_id.n else EntryId(entry_id.ms - 1, 2**64 - 1)


def _readable(data: bytes) -> MetricEvent | None:
    """Return the event, or None for one that a newer writer wrote: it is none of ours."""
    try:
        return metric_events.decode(data)
    except CodecError:
        return None


async def unreported(planes: Planes, output: str, *, after: EntryId, epoch: int) -> list[Fields]:
    """Return the outcome events, as `epoch`'s, of outputs after `after` that nobody reported."""
    fields: list[Fields] = []
    for entry in await planes.media.entries(output, after=after):
        event: MetricEvent = metric_events.decode(entry.fields[OUTCOME])
        if isinstance(event, Outcome):
            fields.append({EVENT: encode(replace(event, epoch=epoch))})
    return fields
