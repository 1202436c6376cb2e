"""Sound in messages of any length, cut into chunks of exactly the length in force. Pure.

The rules of the cut:

- Samples are counted, not timed: within a run, a chunk begins where the one before it ended, whatever jitter (up to
  `JITTER_US`) the messages' own times have.
- A gap is filled with silence until the chunk at hand is full; that chunk goes out, and a new run begins at the
  message after the gap. A gap that fits into the chunk is just filled.
- An overlap larger than the jitter begins a new run too; the chunk at hand is filled up with silence.
- `break_run` does the same at once: the next message's time has nothing to do with the last one's.
- What is left when the client goes away is dropped: less than a chunk.
"""

from typing import NamedTuple

from schemas.errors import InputRejected
from schemas.media import SAMPLE_RATE

BYTES_PER_MS = SAMPLE_RATE * 2 // 1000
JITTER_US = 60_000
"""Messages may be this far from where the sample count expects them."""


class Chunk(NamedTuple):
    """Sound of exactly the length in force."""

    pts_us: int
    """Time of the first sample."""
    seq: int
    """Of the message that brought the first sample."""
    data: bytes


def check_pcm(data: bytes, *, max_ms: int) -> None:
    """Raise `InputRejected` (`bad_sound`) unless `data` is a piece of PCM16 mono at 16 kHz of at most `max_ms`."""
    if len(data) % 2:
        raise InputRejected(f"{len(data)} bytes of sound; PCM16 samples have 2 bytes each", code="bad_sound")
    if not data:
        raise InputRejected("no sound in the message; send at least one sample", code="bad_sound")
    if len(data) > max_ms * BYTES_PER_MS:
        raise InputRejected(
            f"{len(data) // BYTES_PER_MS} ms of sound in one message; at most {max_ms} are accepted", code="bad_sound"
        )


class Reframer:
    """Cuts sound into chunks of `chunk_ms`, which may be changed at any time: it holds from the next chunk on."""

    def __init__(self, chunk_ms: int) -> None:
        """Start without sound."""
        self.chunk_ms = chunk_ms
        self._buffer = bytearray()
        self._marks: list[tuple[int, int]] = []  # (bytes in the buffer before it, seq) of each message in the buffer
        self._anchor_us = 0
        self._taken = 0  # samples that left the buffer since the anchor; times come from it, so they never drift
        self._running = False

    @property
    def _end_us(self) -> int:
        return self._time(self._taken + len(self._buffer) // 2)

    def _time(self, samples: int) -> int:
        return self._anchor_us + samples * 1_000_000 // SAMPLE_RATE

    def push(self, pts_us: int, seq: int, data: bytes) -> list[Chunk]:
        """Take a message's samples (whole ones, `check_pcm`); returns the chunks that are full now."""
        chunks = self._full()  # the length in force may have become shorter than what is at hand
        off_us = pts_us - self._end_us
        if self._running and abs(off_us) > JITTER_US:
            missing = self._chunk_bytes - len(self._buffer)
            gap = off_us * SAMPLE_RATE // 1_000_000 * 2
            if self._buffer and 0 < gap < missing:
                self._buffer += bytes(gap)
            else:
                chunks += self.break_run()
        if not self._running:
            self._anchor_us, self._taken, self._running = pts_us, 0, True
        self._marks.append((len(self._buffer), seq))
        self._buffer += data
        return chunks + self._full()

    def break_run(self) -> list[Chunk]:
        """End the run: what is at hand is filled up with silence and returned."""
        if self._buffer:
            self._buffer += bytes(-len(self._buffer) % self._chunk_bytes)
        chunks = self._full()
        self._running = False
        return chunks

    def drop(self) -> None:
        """Forget what is at hand, and end the run."""
        self._buffer.clear()
        self._marks.clear()
        self._running = False

    @property
    def _chunk_bytes(self) -> int:
        return self.chunk_ms * BYTES_PER_MS

    def _full(self) -> list[Chunk]:
        chunks: list[Chunk] = []
        size = self._chunk_bytes
        while len(self._buffer) >= size:
            chunks.append(Chunk(self._time(self._taken), self._marks[0][1], bytes(self._buffer[:size])))
            del self._buffer[:size]
            self._taken += size // 2
            # The message that the buffer now begins with keeps its mark, at or before the buffer's start.
            marks = [(before - size, seq) for before, seq in self._marks]
            begun = sum(before <= 0 for before, _ in marks)
            self._marks = marks[max(0, begun - 1) :]
        if not self._buffer:
            self._marks.clear()
        return chunks
