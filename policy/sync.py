"""Sync: the audio clock is the master; video that falls behind is dropped down to a floor.

`A` = media time of the end of the newest published sound, `V` = pts of the newest published frame.
late = A - V - max(frame interval, largest of the last gaps between published frames), sampled when A moves: between
chunks A - V is a sawtooth as tall as a chunk and means nothing; a slow camera or thinning is not lateness.

| rule | condition | decision |
|---|---|---|
| drop | late > 150 ms | `DropVideoUntil(A - 150 ms)`, monotone |
| early video | V ahead of A | none: presentation waits for the audio clock |

The rules sleep, and forget `late`, after 1 s without sound or without a video outcome. Requesting a degrade and the
soft skip belong here too; they follow with the ladder that they act on.
"""

import msgspec
from msgspec.structs import replace

from schemas.policy_config import VIDEO_LADDER, PolicyConfig

RULE_DROP = "sync.drop"


class SyncState(msgspec.Struct, frozen=True, array_like=True):
    """What the sync rules remember. Media times in µs, event times in ms of the metric entry's ID."""

    audio_head_us: int | None = None
    video_head_us: int | None = None
    gaps_us: tuple[int, ...] = ()
    """Last gaps between published frames, newest last."""
    audio_at_ms: int | None = None
    video_at_ms: int | None = None
    late_us: int | None = None
    floor_us: int | None = None


def on_video(state: SyncState, config: PolicyConfig, *, at_ms: int, published_pts_us: int | None) -> SyncState:
    """Fold a video outcome; `published_pts_us` is None for a frame that was dropped."""
    state = replace(_sleep(state, config, at_ms), video_at_ms=at_ms)
    if published_pts_us is None:
        return state
    if state.video_head_us is None:
        return replace(state, video_head_us=published_pts_us)
    if published_pts_us <= state.video_head_us:
        return state
    gaps = (*state.gaps_us, published_pts_us - state.video_head_us)[-config.sync_gap_memory :]
    return replace(state, video_head_us=published_pts_us, gaps_us=gaps)


def on_audio(
    state: SyncState, config: PolicyConfig, *, at_ms: int, end_us: int | None, rung: int = 0
) -> tuple[SyncState, int | None]:
    """Fold an audio outcome whose published sound ends at `end_us` (None: skipped); returns a new floor, if any."""
    state = replace(_sleep(state, config, at_ms), audio_at_ms=at_ms)
    if end_us is None or (state.audio_head_us is not None and end_us <= state.audio_head_us):
        return state, None
    state = replace(state, audio_head_us=end_us)
    if state.video_head_us is None or state.video_at_ms is None:
        return state, None
    allowed_us = max(1_000_000 // VIDEO_LADDER[rung].fps, *state.gaps_us, 0)
    late_us = end_us - state.video_head_us - allowed_us
    state = replace(state, late_us=late_us)
    floor_us = end_us - config.sync_drop_us
    if late_us <= config.sync_drop_us or (state.floor_us is not None and floor_us <= state.floor_us):
        return state, None
    return replace(state, floor_us=floor_us), floor_us


def _sleep(state: SyncState, config: PolicyConfig, at_ms: int) -> SyncState:
    """Forget what lateness was measured from when either stream has been quiet for too long."""
    quiet_ms = config.sync_quiet_us // 1000
    video_at, audio_at = state.video_at_ms, state.audio_at_ms
    if video_at is not None and at_ms - video_at > quiet_ms:
        state = replace(state, video_head_us=None, video_at_ms=None, gaps_us=(), late_us=None)
    if audio_at is not None and at_ms - audio_at > quiet_ms:
        state = replace(state, audio_at_ms=None, late_us=None)
    return state
