"""A player that follows the audio clock, played back from the times at which things came. Pure.

Sound starts once a buffer's worth of time has passed since its first chunk, and then runs on at its own pace; where a
chunk is missing, its time passes in silence. When sound runs out altogether the clock stands still until more comes:
an underrun. At every refresh of the screen the newest frame at or before the clock is shown.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

BUFFER_US = 200_000
REFRESH_HZ = 60


class Heard(NamedTuple):
    """A piece of sound: when it came (monotonic us), its media time and how long it lasts (us)."""

    at_us: int
    pts_us: int
    long_us: int


class Seen(NamedTuple):
    """A frame: when it came (monotonic us) and its media time (us)."""

    at_us: int
    pts_us: int


@dataclass(frozen=True, slots=True)
class Showing:
    """What the player presented."""

    skew_us: list[int]
    """At each refresh: time of the frame on the screen minus time of the sound that plays; negative is late video."""
    underruns: int
    started_us: int
    """Monotonic time at which the sound's first sample played."""
    at_us: list[int] = field(default_factory=list)
    """Of each entry of `skew_us`: media time of the sound that played."""


def play(
    sound: Sequence[Heard], pictures: Sequence[Seen], *, buffer_us: int = BUFFER_US, refresh_hz: int = REFRESH_HZ
) -> Showing:
    """Present `sound` and `pictures` (each in order of arrival) until all sound has played."""
    if not sound:
        return Showing([], 0, 0)
    started_us = sound[0].at_us + buffer_us
    last_us = max(chunk.pts_us + chunk.long_us for chunk in sound)
    clock_us = sound[0].pts_us
    skew_us: list[int] = []
    skew_at_us: list[int] = []
    heard, seen, tick, underruns = 0, 0, 0, 0
    end_us = clock_us
    waiting: list[int] = []
    shown_us: int | None = None
    dry = False
    while clock_us < last_us:
        now_us = started_us + tick * 1_000_000 // refresh_hz
        while heard < len(sound) and sound[heard].at_us <= now_us:
            end_us = max(end_us, sound[heard].pts_us + sound[heard].long_us)
            heard += 1
        while seen < len(pictures) and pictures[seen].at_us <= now_us:
            waiting.append(pictures[seen].pts_us)
            seen += 1
        underruns += clock_us >= end_us and not dry
        dry = clock_us >= end_us
        due = [pts_us for pts_us in waiting if pts_us <= clock_us]
        if due:
            shown_us = max(due) if shown_us is None else max(shown_us, *due)
        waiting = [pts_us for pts_us in waiting if pts_us > clock_us]
        if not dry:
            if shown_us is not None:
                skew_us.append(shown_us - clock_us)
                skew_at_us.append(clock_us)
            step_us = (tick + 1) * 1_000_000 // refresh_hz - tick * 1_000_000 // refresh_hz
            clock_us = min(clock_us + step_us, end_us)
        tick += 1
    return Showing(skew_us, underruns, started_us, skew_at_us)
