"""Which frames of a client that sends more than the frame rate in force are let through. Pure.

The generic cell rate algorithm (ITU-T I.371, "virtual scheduling"): every frame let through takes one frame interval
of the schedule; a frame is early, and left out, when the schedule is more than `slack` intervals ahead of it. So

- over any stretch at most `fps x seconds + slack + 1` frames pass, and a client that is faster gets exactly `fps`;
- a client that keeps to the rate loses nothing, as long as no two of its frames are off by more than `slack` intervals
  against each other: cameras jitter, and a busy page stamps a frame late now and then;
- time that was not used is lost, beyond the slack: a pause is no credit for a burst.

Media time alone would leave the rate to the client, whose clock may run too fast or step: ingress keeps a second
schedule, on its own clock, with slack for what a network held up.
"""

SLACK = 2.2
"""Frame intervals, on media time. No whole number: of a camera that is twice, three or four times too fast, every
second, third or fourth frame then passes by a margin, and jitter does not make it alternate between neighbours.
"""


class Thinner:
    """One connection's schedule, in microseconds."""

    def __init__(self, slack: float = SLACK) -> None:
        """Let the first frame through; later ones may be `slack` frame intervals early."""
        self._slack_us = round(slack * 1_000_000)  # at one frame a second
        self._fps = 0
        self._anchor_us = 0
        self._taken = 0  # intervals since the anchor: counted, because 1/18 s is no whole number of microseconds
        self._running = False

    def restart(self) -> None:
        """Forget the schedule: the next frame's time has nothing to do with the last one's."""
        self._running = False

    def admit(self, at_us: int, fps: int) -> bool:
        """Return whether the frame at `at_us` passes at `fps` (1 or more), which may be another one each time."""
        if fps != self._fps:
            self._anchor_us, self._taken, self._fps = self._due_us, 0, fps
        if not self._running or at_us >= self._due_us:
            self._anchor_us, self._taken, self._running = at_us, 1, True
            return True
        if at_us < self._due_us - self._slack_us // fps:
            return False
        self._taken += 1
        return True

    @property
    def _due_us(self) -> int:
        return self._anchor_us + (self._taken * 1_000_000 // self._fps if self._fps else 0)
