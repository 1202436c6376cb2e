"""Joining windows: synchronised overlap-add (SOLA) with sin² fades, or a hard join.

A synthesiser starts its sine source anew in every window, so the same moment has another phase in the next window.
The next window is therefore shifted, within `search`, to where it correlates best with the end of the last one:
o = argmax_k sum_i x[k+i] t[i] / sqrt(sum_i x[k+i]^2 + 1e-8), and faded in over `overlap`.
"""

import numpy as np

from workers.voice.neural.windows import Sound


class Splicer:
    """Blocks of overlapping sound in, one sound out."""

    def __init__(self, overlap: int, search: int) -> None:
        """Fade over `overlap` samples, shift by at most `search`; an overlap of 0 joins hard and never shifts."""
        self._overlap = overlap
        self._search = search if overlap else 0
        self._rise = (np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2).astype(np.float32)
        self._tail: Sound | None = None

    @property
    def beyond(self) -> int:
        """Samples that `push` needs behind the block itself."""
        return self._overlap + self._search

    def reset(self) -> None:
        """Forget what came before: the next block starts as it is."""
        self._tail = None

    def push(self, sound: Sound) -> Sound:
        """Take a block and the `beyond` samples behind it; return the block's samples, joined to what was before."""
        block = len(sound) - self.beyond
        if not self._overlap:
            return sound
        at = 0 if self._tail is None else self._best(sound[: self.beyond], self._tail)
        joined = sound[at : at + block + self._overlap].copy()
        if self._tail is not None:
            joined[: self._overlap] = joined[: self._overlap] * self._rise + self._tail * (1 - self._rise)
        self._tail = joined[block:]
        return joined[:block]

    def _best(self, head: Sound, tail: Sound) -> int:
        likeness = np.correlate(head, tail, "valid")
        energy = np.concatenate(((0.0,), np.cumsum(head.astype(np.float64) ** 2)))
        return int(np.argmax(likeness / np.sqrt(energy[self._overlap :] - energy[: -self._overlap] + 1e-8)))
