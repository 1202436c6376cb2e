"""When the face detector runs, and how far a track is trusted. Pure: no clock, no frames, no I/O.

When the detector runs (one state a session):

| since the last detection                          | detector on this frame |
|---------------------------------------------------|------------------------|
| there was none yet                                | runs                   |
| the previous frame's confidence was below 0.70    | runs                   |
| five frames ago or more                           | runs                   |
| otherwise                                         | rests                  |

A frame's confidence is the lowest of its faces, 0 when there is none or one is lost: so a lost track, or an empty
picture, is looked at again on the very next frame.

How far a track is trusted (one state a track; only detections count, the frames between leave it alone):

| detection                        | streak         | missed | proven                   |
|----------------------------------|----------------|--------|--------------------------|
| confirms the track, at >= 0.85   | grows by one   | 0      | yes, from a streak of 3  |
| confirms the track, below 0.85   | 0              | 0      | stays                    |
| does not see the track           | 0              | +1     | stays                    |

Stable is a streak of three or more. A track that was never stable ends with its first miss; a proven one outlives five
misses in a row, as long as its landmarks still look like a face: a hand before the mouth must not blank the picture.
"""

from dataclasses import dataclass

DETECT_EVERY = 5
REDETECT_BELOW = 0.70
STABLE_FROM = 0.85
STABLE_STREAK = 3
PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Cadence:
    """The detector's rhythm in one session."""

    frames_since: int | None = None
    """Frames from the last detection to the last seen frame; None before the first detection."""
    confidence: float = 0.0
    """The last frame's."""

    def due(self) -> bool:
        """Say whether the detector runs on the coming frame."""
        if self.frames_since is None:
            return True
        return self.confidence < REDETECT_BELOW or self.frames_since + 1 >= DETECT_EVERY

    def after(self, *, detected: bool, confidence: float) -> "Cadence":
        """Return the state after a frame on which the detector ran or not, and which ended at `confidence` (0..1)."""
        if detected:
            return Cadence(0, confidence)
        return Cadence(None if self.frames_since is None else self.frames_since + 1, confidence)


@dataclass(frozen=True, slots=True)
class Trust:
    """How far one track can be trusted."""

    streak: int = 0
    """Detections in a row that confirmed the track at 0.85 or above."""
    missed: int = 0
    """Detections in a row that did not see the track."""
    proven: bool = False
    """Whether the track was ever stable."""

    @property
    def stable(self) -> bool:
        """Whether the last three detections or more all confirmed the track at 0.85 or above."""
        return self.streak >= STABLE_STREAK

    @property
    def alive(self) -> bool:
        """Whether the track may go on."""
        return self.missed <= (PATIENCE if self.proven else 0)

    def confirmed(self, score: float) -> "Trust":
        """Return the state after a detection that saw the track with `score` (0..1)."""
        streak = self.streak + 1 if score >= STABLE_FROM else 0
        return Trust(streak, 0, self.proven or streak >= STABLE_STREAK)

    def unseen(self) -> "Trust":
        """Return the state after a detection that did not see the track."""
        return Trust(0, self.missed + 1, self.proven)
