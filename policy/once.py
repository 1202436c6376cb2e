"""What was folded already: input IDs of outcomes, and sequences of reports."""

from schemas.events import Report
from schemas.ids import EntryId

MOST_PRODUCERS = 64
"""Producers that are remembered. A connection is one, its name is unique for ever, and few live at a time."""


def input_id(text: str) -> tuple[int, int]:
    """Return the input ID that an outcome names; raises `CodecError` on anything that is none."""
    # What almost every ID is, several times faster than the pattern, which takes and refuses the rest.
    if text[-2:] == "-0" and text.isascii() and len(text) <= 22:
        ms = text[:-2]
        if ms.isdecimal():
            return int(ms), 0
    return EntryId.parse(text)


def note(producers: dict[str, int], event: Report) -> dict[str, int] | None:
    """Return the last sequence of each producer with that of `event`, newest last; None when it was folded before."""
    if event.seq <= producers.get(event.producer, -1):
        return None
    noted = producers.copy()
    noted.pop(event.producer, None)
    noted[event.producer] = event.seq
    if len(noted) > MOST_PRODUCERS:
        del noted[next(iter(noted))]
    return noted
