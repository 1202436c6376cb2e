"""What was converted, in which order and by whom, as the recording tells. Pure.

| question | answer |
|---|---|
| which inputs are fed? | those with a recorded output, or of which an outcome says that they were published |
| who converted one? | the epoch in the outcome that rides on the output |
| when does state begin anew? | where that epoch changes: an owner begins with nothing but what `prime` rebuilds |
| primed up to which input? | the newest ID among older outputs and the outcomes that counted before its `WorkerTook` |
| wearing which identity? | what the output's header says (`MediaHeader.worn`) |

What was dropped never reached the engine, and is not fed; it lies there to be primed from, as it did live.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from schemas.bus.base import Entry
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
from schemas.media import OUTCOME, MediaEntry, unpack
from schemas.names import Kind


@dataclass(frozen=True, slots=True)
class Medium:
    """One of the two things that are converted."""

    name: str
    kind: Kind
    input: str
    output: str
    outcomes: tuple[type[Outcome], ...]


VIDEO = Medium("video", Kind.VIDEO, "video:in", "video:out", (VideoProcessed, VideoDropped))
AUDIO = Medium("audio", Kind.VOICE, "audio:in", "audio:out", (AudioProcessed, AudioSkipped))


@dataclass(slots=True)
class Owners:
    """What a session's metrics say of one medium."""

    checkpoints: dict[int, EntryId] = field(default_factory=dict)
    """Epoch of an owner → the newest input that had an outcome when it took the session."""
    published: dict[EntryId, int] = field(default_factory=dict)
    """Input that was published → epoch of who said so."""


@dataclass(frozen=True, slots=True)
class Made:
    """A recorded output."""

    entry: MediaEntry
    outcome: Outcome | None
    """None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Step:
    """One input of a session, in its turn."""

    id: EntryId
    entry: Entry | None
    """None: it was converted, and the recording lacks it."""
    made: Made | None
    """Its output; None when it was dropped, or when the recording lacks it."""
    epoch: int | None
    """Who converted it; None when it was dropped."""


def owners(metrics: Iterable[Entry], medium: Medium) -> Owners:
    """Return who owned `medium`, and what was settled when they took it. Unreadable events are passed over."""
    found, epoch, settled = Owners(), 0, ZERO
    for entry in metrics:
        match _event(entry.fields.get(EVENT, b"")):
            case WorkerTook() as took if took.kind == medium.kind:
                epoch = max(epoch, took.epoch)
                found.checkpoints[took.epoch] = settled
            case Outcome() as outcome if isinstance(outcome, medium.outcomes) and outcome.epoch >= epoch:
                entry_id = EntryId.parse(outcome.id)
                settled = max(settled, entry_id)
                if isinstance(outcome, VideoProcessed | AudioProcessed):
                    found.published[entry_id] = outcome.epoch
    return found


def steps(inputs: Iterable[Entry], outputs: Iterable[Entry], published: Mapping[EntryId, int]) -> Iterator[Step]:
    """Yield every input in order, with its output where it has one. Outputs behind the last input are left out.

    Raises `CodecError` for an output that is no media entry.
    """
    waiting = iter(outputs)
    output = next(waiting, None)
    for entry in inputs:
        while output is not None and output.id < entry.id:
            yield Step(output.id, None, _made(output), _epoch(output, published))
            output = next(waiting, None)
        if output is not None and output.id == entry.id:
            yield Step(entry.id, entry, _made(output), _epoch(output, published))
            output = next(waiting, None)
        else:
            yield Step(entry.id, entry, None, published.get(entry.id))


def _made(output: Entry) -> Made:
    event = _event(output.fields.get(OUTCOME, b""))
    return Made(unpack(output.id, output.fields), event if isinstance(event, Outcome) else None)


def _epoch(output: Entry, published: Mapping[EntryId, int]) -> int:
    event = _event(output.fields.get(OUTCOME, b""))
    return event.epoch if isinstance(event, Outcome) else published.get(output.id, 0)


def _event(data: bytes) -> MetricEvent | None:
    try:
        return metric_events.decode(data)
    except CodecError:
        return None
