"""What each threshold of the policy means, which values make sense, and which contradict each other.

The default, the unit (from the name's ending) and the bounds make the table that `mirage policy` prints.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from schemas.policy_config import PolicyConfig

MOST = 1 << 53
"""Whole numbers stay exact in every reader of a recording."""
_UNITS = {
    "_pm": "per mille",
    "_us": "µs",
    "_ms": "ms",
    "_chunks": "chunks",
    "_frames": "frames",
    "_samples": "samples",
    "_reports": "reports",
    "_detections": "detections",
    "_memory": "values",
    "_of": "in how many",
}
_ZERO_MEANS_SOMETHING = {
    "video_drops",
    "video_settle_frames",
    "video_up_exceptions_pm",
    "video_relapse_frames",
    "chunk_relapse_chunks",
    "sync_grace_ms",
    "skip_gain_us",
    "skip_rest_ms",
    "skip_done_us",
    "skip_late_us",
    "face_redetect_pm",
    "face_stable_pm",
}
_AT_MOST_1000 = {"video_up_exceptions_pm", "face_redetect_pm", "face_stable_pm"}

MEANINGS = {
    "ratio_memory": "a ratio in a rule is the mean of this many last ones",
    "chunk_accept_pm": "a chunk counts as accepted below this share of its own length",
    "chunk_grow_pm": "chunks above this share lead to longer ones …",
    "chunk_grow_chunks": "… when so many in a row are",
    "chunk_shrink_pm": "chunks below this share lead to shorter ones …",
    "chunk_shrink_chunks": "… when so many in a row are",
    "chunk_relapse_chunks": "growing so soon after a shrink makes the next shrink wait twice as long",
    "chunk_relapse_most": "a shrink waits at most this many times as long",
    "voice_fail_pm": "the longest chunks above this share silence the voice …",
    "voice_fail_chunks": "… when so many in a row are",
    "voice_retry_ms": "a silenced voice is tried again after this, then after twice as long, …",
    "voice_retry_most_ms": "… and at the latest after this",
    "latency_us": "sound and picture reach the publisher's own player later than this: the target is missed",
    "latency_reports": "by the median of so many playback reports",
    "sync_drop_us": "video later than this behind the sound is dropped",
    "sync_quiet_us": "without sound or video for this long, lateness is forgotten",
    "sync_gap_memory": "lateness is forgiven up to the largest of so many last gaps between frames",
    "sync_degrade_samples": "so many late samples in a row lead a video rung down",
    "sync_grace_ms": "lateness and drops say nothing for this long after a worker took over",
    "skip_late_us": "video later than this for long enough: frames are left out softly …",
    "skip_frames": "… after more than so many frames",
    "skip_of": "one frame of so many is left out",
    "skip_done_us": "soft skip ends when video is no later than this …",
    "skip_done_samples": "… for so many samples",
    "skip_gain_us": "soft skip is given up unless it gains this much …",
    "skip_trial_frames": "… within so many frames",
    "skip_rest_ms": "a soft skip that was given up is not tried again for this long",
    "video_down_pm": "frames above this share of the frame interval lead a rung down …",
    "video_down_frames": "… when so many in a row are",
    "video_drops": "more stale or superseded frames than this lead a rung down …",
    "video_drops_of": "… among so many",
    "video_settle_frames": "after a step, so many frames are left to settle",
    "video_interval_memory": "the frame interval is at least the median of so many last ones",
    "video_up_pm": "frames below this share count as stable, and lead a rung up …",
    "video_up_frames": "… when so many in a row are",
    "video_up_exceptions_pm": "share of them that may be unstable",
    "video_relapse_frames": "going down so soon after going up doubles that rung's wait",
    "video_up_most_frames": "the longest wait before going up; as many calm frames bring it back",
    "video_probe_times": "a rung that looks too expensive is tried after so many times the wait",
    "video_overload_frames": "so many frames over budget on the lowest rung are reported as overload",
    "face_redetect_pm": "below this confidence the detector runs again on the next frame",
    "face_stable_pm": "a track is stable from this confidence …",
    "face_stable_detections": "… in so many detections in a row",
    "invalid_frames": "so many invalid frames end the session …",
    "invalid_of": "… among so many received",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One field of `PolicyConfig`, for people."""

    name: str
    default: int
    unit: str
    least: int
    most: int
    meaning: str

    @property
    def accepted(self) -> str:
        """Which values make sense alone."""
        return f"a whole number from {self.least}" + (f" to {self.most}" if self.most != MOST else " up")


def thresholds() -> Iterator[Threshold]:
    """Return every threshold, in the order of `PolicyConfig`."""
    for field in msgspec.structs.fields(PolicyConfig):
        unit = next((unit for ending, unit in _UNITS.items() if field.name.endswith(ending)), "")
        most = 1000 if field.name in _AT_MOST_1000 else MOST
        least = 0 if field.name in _ZERO_MEANS_SOMETHING else 1
        yield Threshold(field.name, int(field.default), unit, least, most, MEANINGS.get(field.name, ""))


_ORDERED = (
    ("chunk_shrink_pm", "chunk_grow_pm", "chunks would shrink and grow at the same ratio"),
    ("video_up_pm", "video_down_pm", "the video rung would go up and down at the same ratio"),
    ("skip_done_us", "skip_late_us", "soft skip would end where it begins"),
)
"""The first must be below the second."""
_AT_MOST = (
    ("chunk_grow_pm", "voice_fail_pm", "the voice would fail before chunks grow"),
    ("skip_late_us", "sync_drop_us", "frames would be dropped before soft skip is tried"),
    ("voice_retry_ms", "voice_retry_most_ms", "the first retry would come after the last"),
    ("video_up_frames", "video_up_most_frames", "the wait would begin above its limit"),
    ("face_redetect_pm", "face_stable_pm", "a stable track would be detected anew on every frame"),
    ("invalid_frames", "invalid_of", "the session could never be abandoned"),
)
"""The first must not be above the second."""


def contradiction(config: PolicyConfig) -> tuple[str, str] | None:
    """Return the first contradiction between two thresholds: (the name that is wrong, why); None when there is none."""
    for low, high, why in _ORDERED:
        if getattr(config, low) >= getattr(config, high):
            return low, f"must be below {high} ({getattr(config, high)}): {why}"
    for low, high, why in _AT_MOST:
        if getattr(config, low) > getattr(config, high):
            return low, f"must be at most {high} ({getattr(config, high)}): {why}"
    if config.video_drops >= config.video_drops_of:
        return "video_drops", f"must be below video_drops_of ({config.video_drops_of}): the rule could never fire"
    if config.skip_of < 2:
        return "skip_of", "must be 2 or more: one frame of 1 would leave nothing"
    return None
