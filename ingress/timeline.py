"""The client's media time, mapped to the session's, which never steps back. Pure.

A client may start anywhere, begin again at 0, and come back on another connection; the session's time goes on. The
rules:

- All media of a connection share one offset, so sound and picture stay together.
- A *step*, back by more than `RESTART_US` or forward by more than `LEAP_US`, is a new start of the client's clock: it
  gets a new offset, which puts it `STEP_US` after the latest time that the session has seen.
- The first kind of media to step makes the new offset; the other kind, when it steps too, takes the same one. One
  that only paused while the other went on keeps its offset.
- A smaller step back of a frame is disorder, and refused: an earlier picture is of no use after a later one.
"""

from dataclasses import dataclass
from typing import NamedTuple

from schemas.errors import InputRejected
from schemas.wire import MediaType

RESTART_US = 100_000
LEAP_US = 10_000_000
STEP_US = 500_000
"""Room after a new start for the other kind of media, which may begin a little earlier."""


class Mapped(NamedTuple):
    """One media time in the session."""

    pts_us: int
    offset_us: int
    """Session time minus client time."""
    stepped: bool
    """Whether this time has nothing to do with the one before it."""


@dataclass(slots=True)
class _Track:
    offset_us: int
    generation: int
    last_client_us: int
    last_session_us: int


class Timeline:
    """Maps the media times of one connection. `start_us` is where the session's time stands."""

    def __init__(self, start_us: int) -> None:
        """Start without an offset: the first message makes it."""
        self._head_us = self._start_us = start_us
        self._offset_us: int | None = None
        self._generation = 0
        self._tracks: dict[MediaType, _Track] = {}

    @property
    def offset_us(self) -> int | None:
        """The newest offset; None before the first message."""
        return self._offset_us

    def map(self, kind: MediaType, pts_us: int, duration_us: int = 0) -> Mapped:
        """Return the session time of client time `pts_us`, and move the head past it.

        Raises `InputRejected` (`bad_pts`) for a message that is a little earlier than its predecessor.
        """
        track = self._tracks.get(kind)
        step = None if track is None else pts_us - track.last_client_us
        if track is None or step is None or step < -RESTART_US or step > LEAP_US:
            track = self._tracks[kind] = self._restart(track, pts_us)
            mapped = Mapped(pts_us + track.offset_us, track.offset_us, stepped=True)
        else:
            mapped = Mapped(pts_us + track.offset_us, track.offset_us, stepped=False)
            # Sound may overlap by its jitter: its samples are counted anyway.
            if kind is MediaType.VIDEO and mapped.pts_us <= track.last_session_us:
                raise InputRejected(
                    f"pts_us {pts_us} is not after {track.last_client_us}, the last one", code="bad_pts"
                )
        track.last_client_us = max(track.last_client_us, pts_us)  # small steps back must not add up
        track.last_session_us = max(track.last_session_us, mapped.pts_us)
        self._head_us = max(self._head_us, mapped.pts_us + duration_us)
        return mapped

    def _restart(self, track: _Track | None, pts_us: int) -> _Track:
        seen = 0 if track is None else track.generation
        forward = track is not None and pts_us > track.last_client_us
        if self._offset_us is not None and (forward or seen < self._generation):
            # The other kind of media has stepped before, or went on while this one paused: follow it, if that leads to
            # about the same time.
            there_us = pts_us + self._offset_us
            earliest_us = (self._start_us if track is None else track.last_session_us) + 1
            if earliest_us <= there_us <= self._head_us + LEAP_US:
                return _Track(self._offset_us, self._generation, pts_us, there_us - 1)
        self._generation += 1
        self._offset_us = self._head_us + STEP_US - pts_us
        return _Track(self._offset_us, self._generation, pts_us, self._head_us)
