"""The load of `mirage demo --stress`: the same every time, so that the whole policy is seen to act.

| media time | what goes wrong | what policy does |
|---|---|---|
| 2 s | one frame takes 0.6 s longer | drops what is late by then |
| 2.5-15 s | the camera's frames get through 165 ms late | soft skip, until the sound is caught up with |
| 19-34 s | converting a chunk takes 155 ms longer | chunks grow to a length that fits |
| 20-46 s | swapping takes 48 ms longer, for a frame of full size | the ladder goes down to where that fits |
| then | nothing | the ladder comes back rung by rung, chunks shrink |

The lateness cannot be the worker's: it works on one frame at a time, so a slow engine means few frames rather than late
ones. Against chunks of 192 ms, lateness of frames 50 ms apart is a sawtooth of 50 ms: 165 ms on the way make it 70 to
120 ms, between the soft skip's 45 and the drop floor's 150. 48 ms are too much for 512 pixels at 15 frames a second,
and fit at 384 on any machine that takes 2 to 22 ms of its own. 155 ms are 81 % of a chunk of 192 ms, and 61 % of 256;
they come before 120 chunks have passed, which would be the first to be shortened.
"""

from dataclasses import dataclass

from ops.demo.publish import Jam

SLOW_FROM_S, SLOW_TO_S = 20, 46
"""Session media time, in which the video engine is slow."""
LEAD_US = 500_000
"""Session media time of a publisher's first frame: `ingress.timeline.STEP_US`."""


@dataclass(frozen=True, slots=True)
class Load:
    """What goes wrong in a session, and how long that takes."""

    fault: str
    """`MIRAGE_FAULT`: session media time."""
    jam: Jam
    """Publisher's media time."""
    seconds: float
    """What is played: until the ladder is back at the top, with some time to spare."""
    calm_from_s: float
    """Session media time from which nothing is slow any more."""


LOAD = Load(
    fault=f"video.swap:+600ms@2000ms..2050ms,video.swap:+48ms*area@{SLOW_FROM_S}s..{SLOW_TO_S}s,"
    "voice.convert:+155ms@19s..34s",
    jam=Jam(2_500_000 - LEAD_US, 15_000_000 - LEAD_US, 165_000),
    seconds=160,
    calm_from_s=SLOW_TO_S,
)
