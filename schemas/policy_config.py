"""The thresholds of policy and the ladders that it walks: one frozen record, written as a session's first event."""

import msgspec

from schemas.message import Count

RULES_VERSION = 1
"""Changes when the same events under the same config would lead to other decisions."""


class VideoRung(msgspec.Struct, frozen=True, array_like=True):
    """One step of the video ladder: quality degrades first, then frame rate, then resolution."""

    quality: int
    fps: int
    size: int


VIDEO_LADDER = (
    VideoRung(85, 20, 512),
    VideoRung(75, 20, 512),
    VideoRung(65, 20, 512),
    VideoRung(55, 20, 512),
    VideoRung(55, 18, 512),
    VideoRung(55, 15, 512),
    VideoRung(55, 15, 384),
    VideoRung(55, 15, 256),
)

CHUNK_LADDER_MS = (96, 128, 160, 192, 256, 320)
"""Audio chunk sizes: multiples of 32 ms, that is of 512 samples."""


class PolicyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds, all integers. The defaults are the specification's constants."""

    sync_drop_us: Count = 150_000
    """Video later than this behind the audio head is dropped."""
    sync_quiet_us: Count = 1_000_000
    """The sync rules sleep after this long without sound or without a video outcome."""
    sync_gap_memory: Count = 4
    """Lateness is forgiven up to the largest of this many last gaps between published frames."""
