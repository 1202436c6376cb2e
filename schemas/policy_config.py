"""The thresholds of policy and the ladders that it walks: one frozen record, written as a session's first event."""

import msgspec

from schemas.message import Count

RULES_VERSION = 2
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
    """Thresholds, all integers. The defaults are the specification's constants, and refinements of them that D62 gives.

    Ratios are per mille of the media's own duration; "for the last N" means each of the last N events that count.
    """

    ratio_memory: Count = 5
    """A ratio in a rule is the mean over this many last counted events."""

    chunk_accept_pm: Count = 650
    chunk_grow_pm: Count = 750
    chunk_grow_chunks: Count = 40
    chunk_shrink_pm: Count = 550
    chunk_shrink_chunks: Count = 120
    chunk_relapse_chunks: Count = 600
    """A grow within this many chunks of a shrink doubles the next `chunk_shrink_chunks` (and a fail within as many of a
    restore, the time to the next one) …"""
    chunk_relapse_most: Count = 64
    """… up to this many times."""
    voice_fail_pm: Count = 800
    voice_fail_chunks: Count = 40
    voice_retry_ms: Count = 10_000
    """A failed voice is tried again after this, then after twice as long, …"""
    voice_retry_most_ms: Count = 160_000
    latency_us: Count = 250_000
    latency_reports: Count = 10

    sync_drop_us: Count = 150_000
    """Video later than this behind the audio head is dropped."""
    sync_quiet_us: Count = 1_000_000
    """The sync rules sleep after this long without sound or without a video outcome."""
    sync_gap_memory: Count = 4
    """Lateness is forgiven up to the largest of this many last gaps between published frames."""
    sync_degrade_samples: Count = 3
    sync_grace_ms: Count = 1_500
    """After a worker took over, lateness and drops say nothing about its speed for this long."""
    skip_late_us: Count = 45_000
    skip_frames: Count = 120
    """Soft skip begins when video is late by more than `skip_late_us` through more than this many outcomes."""
    skip_of: Count = 4
    skip_done_us: Count = 20_000
    skip_done_samples: Count = 10
    skip_gain_us: Count = 10_000
    skip_trial_frames: Count = 200
    """Soft skip is given up when this many frames of it have not gained `skip_gain_us` …"""
    skip_rest_ms: Count = 60_000
    """… and not tried again for this long."""

    video_down_pm: Count = 750
    video_down_frames: Count = 40
    video_drops: Count = 10
    """More stale or superseded outcomes than this among the last `video_drops_of` lead a rung down."""
    video_drops_of: Count = 100
    video_settle_frames: Count = 20
    video_interval_memory: Count = 20
    """The frame interval is at least the median of this many last input intervals."""
    video_up_pm: Count = 600
    video_up_frames: Count = 300
    video_up_exceptions_pm: Count = 20
    video_relapse_frames: Count = 2_400
    """Going down within this many frames of going up doubles that rung's `video_up_frames` …"""
    video_up_most_frames: Count = 4_800
    """… up to this; as many calm frames bring it back."""
    video_probe_times: Count = 4
    """A rung that would be over budget by what is remembered of it is tried after this many times its count."""
    video_overload_frames: Count = 100

    face_redetect_pm: Count = 700
    face_stable_pm: Count = 850
    face_stable_detections: Count = 3

    invalid_frames: Count = 61
    invalid_of: Count = 200
    """`invalid_frames` invalid among the last `invalid_of` received end the session."""

    def __post_init__(self) -> None:
        """Refuse what no fold could work with: raises ValueError, which decoding turns into `CodecError`."""
        for name in self.__struct_fields__:
            value, least = getattr(self, name), int(name in _KEPT)
            if value.__class__ is not int or value < least:
                raise ValueError(f"PolicyConfig.{name} is {value!r}; expected a whole number >= {least}")


_KEPT = frozenset(
    {
        "ratio_memory",
        "chunk_relapse_most",
        "latency_reports",
        "sync_gap_memory",
        "video_interval_memory",
        "invalid_frames",
    }
)
"""Thresholds that say how many values are kept, or are multiplied with: none is not a number of them."""
