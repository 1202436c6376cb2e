"""Counts what a recorder did not get, while it records. Pure.

Outcome events name media that existed before the event did. An entry so named is missing when its stream has been
recorded beyond its ID without it, or when the stream, read to its end, does not reach it: retention took it.
"""

from ops.archive.gaps import named_media
from ops.archive.model import MEDIA_STREAMS
from schemas.bus.base import Entry
from schemas.ids import ZERO, EntryId

_REMEMBERED = 4096
"""IDs a stream: three minutes of video. What is older is taken for recorded."""


class MissingMedia:
    """What is known of one session's media, from the moment a recorder took it."""

    def __init__(self, positions: dict[str, EntryId]) -> None:
        """Take everything up to `positions` for recorded."""
        self._floor = {stream: positions.get(stream, ZERO) for stream in MEDIA_STREAMS}
        self._last = dict(self._floor)
        self._recorded: dict[str, dict[EntryId, None]] = {stream: {} for stream in MEDIA_STREAMS}
        self._named: set[tuple[str, EntryId]] = set()
        self.missed = 0

    def note(self, stream: str, entry: Entry) -> None:
        """Take notice of an entry that is in the file now."""
        if stream in MEDIA_STREAMS:
            self._remember(stream, entry.id)
            self._last[stream] = entry.id
        elif stream == "metrics":
            self._named.update(pair for pair in named_media(entry) if pair[1] > self._floor[pair[0]])

    def settle(self, read: dict[str, EntryId]) -> int:
        """Count the named entries that can be decided; returns how many of them are missing.

        `read` says how far each stream was read, after the events that named them, and to its end.
        """
        missing = 0
        for stream, entry_id in list(self._named):
            if self._last[stream] < entry_id <= read[stream]:
                continue  # read, and not in the file yet
            self._named.discard((stream, entry_id))
            if entry_id > self._floor[stream] and entry_id not in self._recorded[stream]:
                self._remember(stream, entry_id)  # two events may name it
                missing += 1
        self.missed += missing
        return missing

    def _remember(self, stream: str, entry_id: EntryId) -> None:
        known = self._recorded[stream]
        known[entry_id] = None
        if len(known) > _REMEMBERED:
            oldest = next(iter(known))
            del known[oldest]
            self._floor[stream] = max(self._floor[stream], oldest)
