"""Sound that goes by unconverted: silence, or itself, as late as converted sound would be; and what is kept of it.

    on ──header says silent or through──► by ──header says on──► on

Only sound that was itself marked to go through ever comes out: what the lookahead holds back when the mark changes is
replaced by silence. Pure: samples in, samples out.
"""

import numpy as np

from workers.voice.engine import Pcm

KEPT = 8_192
"""Samples of past input that bring the engine's stream up to date when conversion resumes: 512 ms, which covers every
window of analysis. Its `context`, seconds of speech, is for a stream that never heard the speaker; to process as much
would lose the chunks that arrive meanwhile, on a machine that was too slow before."""


class Bypass:
    """One stream's way around the engine."""

    def __init__(self, lookahead: int) -> None:
        """Delay what passes by `lookahead` samples, as the engine would."""
        self.lookahead = lookahead
        self.forget()

    def forget(self) -> None:
        """Begin anew, with silence behind."""
        self._held: Pcm = np.zeros(self.lookahead, np.int16)  # what is yet to come out
        self._past: Pcm = np.zeros(0, np.int16)

    def silent(self, pcm: Pcm) -> Pcm:
        """Take (N,) samples in and return silence."""
        self._keep(pcm)
        self._held = np.zeros(self.lookahead, np.int16)
        return np.zeros(pcm.size, np.int16)

    def through(self, pcm: Pcm, heard: Pcm) -> Pcm:
        """Take (N,) samples in, of which `heard` (N,) may be heard; return what was held back, then `heard`."""
        self._keep(pcm)
        joined = np.concatenate((self._held, heard))
        self._held = joined[pcm.size :]
        return joined[: pcm.size]

    def take_past(self) -> Pcm:
        """Return the newest input that went by, at most `KEPT` samples, and begin anew."""
        past = self._past
        self.forget()
        return past

    def _keep(self, pcm: Pcm) -> None:
        self._past = np.concatenate((self._past, pcm))[-KEPT:]
