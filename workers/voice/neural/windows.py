"""Which stretch of input a block of output is converted from: rules first, then arithmetic.

All positions are samples at 16 kHz from the start of the stream.

1. A window starts and ends on multiples of 320 samples (one content frame, two synthesis frames), wherever the block
   lies. So the frames of successive windows are the same frames, whatever the lengths of the chunks.
2. A window is as long as its block requires, and no other thing changes its length: a network sees one shape per
   chunk length, as CUDA graphs and TensorRT want it.
3. To the left of the block lies `context` of past; to its right what the networks hear ahead. The block that leaves
   when sample `end` has arrived ends `LOOKAHEAD` before `end`: always, so that sound and picture stay together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.voice.grid import BLOCK

GRID = 320  # samples of a content frame
FRAME = 160  # samples of a synthesis frame: 10 ms
LOOKAHEAD = 1024  # 64 ms, the contract's most: F0 of the last frames wants 50 ms, the fade lies inside
LARGEST = 5120  # samples of one block, the ladder's top rung; longer chunks are several blocks

_RAGGED = GRID - np.gcd(GRID, BLOCK)  # samples by which the last grid point may lie before `end`

Sound = NDArray[np.float32]  # (N,) full scale is 1.0


@dataclass(frozen=True, slots=True)
class Window:
    """The input [start, start + samples) for the output block [emit, emit + block)."""

    start: int
    samples: int
    emit: int
    block: int

    @property
    def first_frame(self) -> int:
        """Return the absolute index of its first 10 ms frame."""
        return self.start // FRAME

    @property
    def frames(self) -> int:
        """Return its length in 10 ms frames."""
        return self.samples // FRAME


def plan(end: int, block: int, *, context: int, delay: int) -> Window:
    """Return the window of the block that leaves when `end` samples have arrived.

    `delay`: samples by which what follows the join lags; the join runs that much ahead.
    """
    length = -(-(context + block + LOOKAHEAD) // GRID) * GRID
    return Window(end // GRID * GRID - length, length, end - LOOKAHEAD - block + delay, block)


def room(delay: int) -> int:
    """Return the samples behind a block that every window still covers: overlap and search must fit in."""
    return LOOKAHEAD - delay - int(_RAGGED)


class History:
    """The last samples of a stream, by absolute position."""

    def __init__(self, capacity: int) -> None:
        """Keep `capacity` samples; before the start of the stream lies silence."""
        self._kept: Sound = np.zeros(capacity, np.float32)
        self.end = 0

    def push(self, sound: Sound) -> None:
        """Take in at most `capacity` samples."""
        count = len(sound)
        self._kept[:-count] = self._kept[count:]
        self._kept[-count:] = sound
        self.end += count

    def read(self, start: int, stop: int) -> Sound:
        """Return samples [start, stop) as a view that the next `push` changes. They must still be kept."""
        first = self.end - len(self._kept)
        if not first <= start <= stop <= self.end:
            raise IndexError(f"samples {start} to {stop} asked, {first} to {self.end} kept")
        return self._kept[start - first : stop - first]
