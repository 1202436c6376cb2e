"""Stream entry IDs: `<milliseconds>-<sequence>`, ordered, chosen by the writer wherever a retry is possible."""

import re
from collections.abc import Callable
from typing import NamedTuple

from schemas.errors import CodecError

_PATTERN = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")


class EntryId(NamedTuple):
    """The ID of one stream entry. Tuples compare as streams order."""

    ms: int
    n: int

    @classmethod
    def parse(cls, text: str | bytes) -> "EntryId":
        """Read `<ms>-<n>`; raises `CodecError` on anything else."""
        raw = text.decode("ascii", "replace") if isinstance(text, bytes) else text
        match = _PATTERN.fullmatch(raw)
        if match is None:
            raise CodecError(f"{raw[:40]!r} is not a stream entry ID; expected <ms>-<n>")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """Return the form that streams use."""
        return f"{self.ms}-{self.n}"

    def successor(self) -> "EntryId":
        """Return the smallest greater ID."""
        return EntryId(self.ms, self.n + 1)


ZERO = EntryId(0, 0)
"""Before every entry: reading after it reads from the start."""


class IdSource:
    """Strictly rising IDs for one stream, whatever the clock does.

    The milliseconds are the wall clock's; when it stands still or steps back, the last ID counts up instead, because
    a stream refuses an ID at or below its last.
    """

    def __init__(self, last: EntryId, now_ms: Callable[[], int]) -> None:
        """Continue after `last`, the stream's last ID."""
        self._last = last
        self._now_ms = now_ms

    def take(self) -> EntryId:
        """Return the next ID."""
        fresh = EntryId(self._now_ms(), 0)
        self._last = fresh if fresh > self._last else self._last.successor()
        return self._last
