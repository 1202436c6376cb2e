"""Which of the frames that are there to work on. Pure; time comes in as numbers.

| what | order `newest` (live) | order `fifo` (counting every frame, and sound) |
|---|---|---|
| below the floor | dropped, `late` | dropped, `late` |
| older than the deadline | dropped, `stale` | dropped, `stale` |
| more than fit into one frame interval at the measured cost | oldest dropped, `superseded` | kept |
| the last of every `of` that would be begun, while policy orders a soft skip | dropped, `soft_skip` | the same |

Age is measured in stream time plus a monotonic wait, never between two wall clocks: the newest input's ID minus this
one's, plus the time waited here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.events import DropReason
from schemas.media import MediaEntry

MAX_BURST = 4


class Order(StrEnum):
    """What happens when more input is there than there is time."""

    NEWEST = "newest"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Limits:
    """When an input is no longer worth working on."""

    order: Order
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Drop:
    """An input that is not worked on, and why."""

    entry: MediaEntry
    reason: DropReason


def select(
    entries: Sequence[MediaEntry],
    *,
    limits: Limits,
    floor_us: int | None,
    newest_ms: int,
    waited_us: int,
    burst: int,
) -> tuple[list[MediaEntry], list[Drop]]:
    """Split `entries` (oldest first) into work, oldest first, and drops, oldest first.

    `newest_ms` is the stream time of the newest input, in `entries` or beyond; `waited_us` is how long `entries` have
    been here. `burst` is how many the worker can do within a frame interval.
    """
    work: list[MediaEntry] = []
    drops: list[Drop] = []
    for entry in entries:
        age_ms = newest_ms - entry.id.ms + waited_us // 1000
        if floor_us is not None and entry.header.pts_us < floor_us:
            drops.append(Drop(entry, DropReason.LATE))
        elif age_ms > limits.deadline_ms:
            drops.append(Drop(entry, DropReason.STALE))
        else:
            work.append(entry)
    if limits.order is Order.NEWEST:
        beyond = bool(entries) and newest_ms > entries[-1].id.ms  # newer ones wait, more than were read at once
        surplus = len(work) - (0 if beyond else max(1, burst))
        drops += [Drop(entry, DropReason.SUPERSEDED) for entry in work[: max(0, surplus)]]
        work = work[max(0, surplus) :]
        drops.sort(key=lambda drop: drop.entry.id)
    return work, drops


class SoftSkipping:
    """Counts the frames that would be begun, and leaves out the last of every `of`."""

    def __init__(self) -> None:
        """Begin to count with the first order."""
        self._of = self._count = 0

    def leaves_out(self, of: int) -> bool:
        """Return whether the frame that would be begun now is left out; `of` is the order in force, 0 is none."""
        if of != self._of:
            self._of, self._count = of, 0
        if of == 0:
            return False
        self._count = (self._count + 1) % of
        return self._count == 0


def burst_size(runtime_us: int, interval_us: int) -> int:
    """Return how many frames fit into one interval at `runtime_us` each, 1 to `MAX_BURST`.

    A network hands frames over in bursts; dropping all but the newest of a burst that there is time for would lose
    frames for nothing.
    """
    return max(1, min(MAX_BURST, interval_us // max(1, runtime_us)))
