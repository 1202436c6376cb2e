"""The silence gate: silence in is silence out, and costs next to nothing.

The gate listens at the head of the stream, `LOOKAHEAD` ahead of what is being synthesised, so it opens before a word
begins and the word's first consonant is not cut. It closes some time after the last loud block has been spoken. Its
decision becomes a straight fade over one block.
"""

import numpy as np

from workers.voice.grid import BLOCK, HOP, LOOKAHEAD, Samples, seconds

_OPEN_DB = -52.0  # dBFS: quieter than speech at any sane microphone gain, louder than an idle input
_ABOVE_FLOOR_DB = 8.0  # a steady fan must not be turned into a voice
_FLOOR_DEEPEST_DB = -70.0
_FLOOR_CAP_DB = -38.0  # a room louder than this is converted as it is: better hiss than lost words
_FLOOR_RISE_DB = 2.0 * seconds(BLOCK)  # 2 dB a second: a held vowel must not be taken for the room
_HOLD = 5  # blocks (160 ms) after the last loud one: a word's tail and the gap within a stop consonant
_SILENCE = 1e-5  # -100 dBFS

_LATE = -(-LOOKAHEAD // BLOCK)  # blocks between the head of the stream and the block being synthesised


class SilenceGate:
    """Blocks in, a gain ramp for the block that is `LOOKAHEAD` behind out."""

    def __init__(self) -> None:
        """Start closed, in a loud room."""
        self._floor_db = _FLOOR_CAP_DB  # the first quiet moment corrects it; a fan that runs already is not converted
        self._since_loud = _LATE + _HOLD + 1
        self._gain = 0.0

    @property
    def closed(self) -> bool:
        """Whether the last ramp ended at zero."""
        return self._gain == 0.0

    def push(self, block: Samples) -> Samples | None:
        """Take (512,) samples; return the gain (512,) of the block due now, None where it is zero throughout."""
        power = np.mean(block.reshape(-1, HOP) ** 2, axis=1)
        levels_db = 10 * np.log10(power + _SILENCE**2)
        quietest, loudest = float(levels_db.min()), float(levels_db.max())
        self._floor_db = min(quietest, self._floor_db + _FLOOR_RISE_DB, _FLOOR_CAP_DB)
        self._floor_db = max(self._floor_db, _FLOOR_DEEPEST_DB)
        loud = loudest > max(_OPEN_DB, self._floor_db + _ABOVE_FLOOR_DB)
        self._since_loud = 0 if loud else self._since_loud + 1

        before, after = self._gain, 1.0 if self._since_loud <= _LATE + _HOLD else 0.0
        self._gain = after
        if before == after == 0.0:
            return None
        return np.linspace(before, after, BLOCK, endpoint=False)
