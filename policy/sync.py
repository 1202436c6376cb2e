"""Sync: the audio clock is the master; video that falls behind is dropped, thinned, and at last made cheaper.

`A` = media time of the end of the newest published sound, `V` = pts of the newest published frame (or softly skipped).
late = A - V - max(frame interval, largest of the last gaps between published frames), sampled when A moves: between
chunks A - V is a sawtooth as tall as a chunk and means nothing; a slow camera or thinning is not lateness.

| rule | condition | decision |
|---|---|---|
| `sync.drop` | late > 150 ms | `DropVideoUntil(A - 150 ms)`, monotone |
| degrade | late > 150 ms on 3 consecutive samples, each with a new V, past the grace | a step down is asked for |
| `sync.skip` | late > 45 ms through more than 120 consecutive video outcomes | `SoftSkip(1 of 4)` |
| `sync.caught_up` | late <= 20 ms for 10 samples of a soft skip | `SoftSkip(0)` |
| `sync.no_gain` | 200 frames of a soft skip have not gained 10 ms | `SoftSkip(0)`; none for 60 s |
| `sync.sleep` | a soft skip is on, and there was no sound or no video outcome for 1 s | `SoftSkip(0)` |
| early video | V ahead of A | none: presentation waits for the audio clock |

After 1 s without sound or without a video outcome the rules sleep: lateness, its runs and any soft skip are forgotten.
A sample without a new V neither counts for the degrade rule nor resets it: video stands still then, which says nothing
of its speed. Within 1.5 s of `WorkerTook`, the grace, samples do not count for that rule. The ladder is deaf to it
while it settles. What a soft skip gains is the difference of two means: of the samples that led to it, and of those in
its 200 frames. A single sample is off by up to a frame interval, in a beat of chunks and frames that takes seconds. A
soft skip that has gained its 10 ms is measured anew from there. A frame that it leaves out moves V like one that is
published: the gap that it makes would be forgiven, and look like a gain.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from schemas.decisions import DropVideoUntil, PolicyDecision, SoftSkip
from schemas.ids import EntryId
from schemas.policy_config import PolicyConfig

DROP, SKIP, CAUGHT_UP, NO_GAIN, SLEEP = "sync.drop", "sync.skip", "sync.caught_up", "sync.no_gain", "sync.sleep"


class SyncState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the sync rules remember. Media times in µs, event times in ms of the metric entry's ID."""

    audio_head_us: int | None = None
    video_head_us: int | None = None
    gaps_us: tuple[int, ...] = ()
    """Last gaps between published frames, newest last."""
    audio_at_ms: int | None = None
    video_at_ms: int | None = None
    late_us: int | None = None
    """The last sample; None while nothing is known."""
    late_sum: tuple[int, int] = (0, 0)
    """Sum in µs and number of the samples since the run of late ones, or the soft skip's last 200 frames, began."""
    floor_us: int | None = None
    sampled_us: int | None = None
    """V at the last sample."""
    late_samples: int = 0
    late_frames: int = 0
    """Consecutive video outcomes while late; not counted while soft skip is on."""
    skipping: bool = False
    skip_from_us: int = 0
    """Lateness that the soft skip has to better, a mean."""
    skip_frames: int = 0
    caught_up: int = 0
    rest_until_ms: int = 0

    @property
    def mean_late_us(self) -> int:
        """Mean of those samples; 0 without one."""
        return self.late_sum[0] // max(1, self.late_sum[1])


def on_video(
    state: SyncState, config: PolicyConfig, entry_id: EntryId, reached_us: int | None
) -> tuple[SyncState, Sequence[PolicyDecision]]:
    """Fold a video outcome; `reached_us` is the pts of a frame that was published or softly skipped, else None."""
    at_ms = entry_id.ms
    decided: tuple[PolicyDecision, ...] = ()
    if _quiet(state, config, at_ms):
        state, decided = _sleep(state, config, entry_id)
    head_us, gaps_us = state.video_head_us, state.gaps_us
    if reached_us is not None:
        if head_us is None:
            head_us = reached_us
        elif reached_us > head_us:
            gaps_us = (*gaps_us, reached_us - head_us)[-config.sync_gap_memory :]
            head_us = reached_us
    late_us, late_frames = state.late_us, 0
    if state.skipping and late_us is not None:
        state, more = _on_skip_trial(state, config, entry_id)
        decided += more
    elif late_us is not None and late_us > config.skip_late_us:
        late_frames = state.late_frames + 1
        if late_frames > config.skip_frames and at_ms >= state.rest_until_ms:
            decided += (SoftSkip(cause=str(entry_id), rule=SKIP, of=config.skip_of),)
            state = replace(
                state, skipping=True, skip_from_us=state.mean_late_us, skip_frames=0, caught_up=0, late_sum=(0, 0)
            )
            late_frames = 0
    state = replace(state, video_head_us=head_us, gaps_us=gaps_us, video_at_ms=at_ms, late_frames=late_frames)
    return state, decided


def _on_skip_trial(
    state: SyncState, config: PolicyConfig, entry_id: EntryId
) -> tuple[SyncState, tuple[PolicyDecision, ...]]:
    late_us = state.mean_late_us
    frames = state.skip_frames + 1
    if frames < config.skip_trial_frames:
        return replace(state, skip_frames=frames), ()
    if state.late_sum[1] and state.skip_from_us - late_us >= config.skip_gain_us:
        return replace(state, skip_frames=0, skip_from_us=late_us, late_sum=(0, 0)), ()
    state = replace(
        state, skipping=False, skip_frames=0, late_sum=(0, 0), rest_until_ms=entry_id.ms + config.skip_rest_ms
    )
    return state, (SoftSkip(cause=str(entry_id), rule=NO_GAIN, of=0),)


def on_audio(
    state: SyncState, config: PolicyConfig, entry_id: EntryId, *, end_us: int | None, interval_us: int, grace: bool
) -> tuple[SyncState, Sequence[PolicyDecision], bool]:
    """Fold an audio outcome whose published sound ends at `end_us` (None: skipped).

    `interval_us` is that of the video rung in force; `grace` says that a video worker took over just now. Returns the
    state, decisions, and whether a step down the video ladder is asked for.
    """
    decided: tuple[PolicyDecision, ...] = ()
    if _quiet(state, config, entry_id.ms):
        state, decided = _sleep(state, config, entry_id)
    if end_us is None or (state.audio_head_us is not None and end_us <= state.audio_head_us):
        return replace(state, audio_at_ms=entry_id.ms), decided, False
    head_us = state.video_head_us
    if head_us is None:
        return replace(state, audio_at_ms=entry_id.ms, audio_head_us=end_us), decided, False
    late_us = end_us - head_us - max(interval_us, *state.gaps_us, 0)
    floor_us, late_samples, ask = state.floor_us, 0, False
    if late_us > config.sync_drop_us:
        wanted_us = end_us - config.sync_drop_us
        if floor_us is None or wanted_us > floor_us:
            floor_us = wanted_us
            decided += (DropVideoUntil(cause=str(entry_id), rule=DROP, floor_us=floor_us),)
        late_samples = state.late_samples + (head_us != state.sampled_us and not grace)
        if late_samples >= config.sync_degrade_samples:
            late_samples, ask = 0, True
    (late_sum_us, samples), skipping, caught_up = state.late_sum, state.skipping, 0
    if skipping and late_us <= config.skip_done_us:
        caught_up = state.caught_up + 1
        if caught_up >= config.skip_done_samples:
            skipping, caught_up = False, 0
            decided += (SoftSkip(cause=str(entry_id), rule=CAUGHT_UP, of=0),)
    state = replace(
        state,
        audio_at_ms=entry_id.ms,
        audio_head_us=end_us,
        late_us=late_us,
        late_sum=(late_sum_us + late_us, samples + 1) if skipping or late_us > config.skip_late_us else (0, 0),
        floor_us=floor_us,
        sampled_us=head_us,
        late_samples=late_samples,
        late_frames=state.late_frames if late_us > config.skip_late_us else 0,
        skipping=skipping,
        caught_up=caught_up,
    )
    return state, decided, ask


def on_took(state: SyncState) -> SyncState:
    """Fold a takeover of the video work: what was late under the last owner does not count for the next."""
    return replace(state, late_samples=0)


def _quiet(state: SyncState, config: PolicyConfig, at_ms: int) -> bool:
    since_ms = at_ms - config.sync_quiet_us // 1000
    video_at, audio_at = state.video_at_ms, state.audio_at_ms
    return (video_at is not None and video_at < since_ms) or (audio_at is not None and audio_at < since_ms)


def _sleep(state: SyncState, config: PolicyConfig, entry_id: EntryId) -> tuple[SyncState, tuple[PolicyDecision, ...]]:
    """Forget lateness, and what it was measured from when that was quiet for too long."""
    since_ms = entry_id.ms - config.sync_quiet_us // 1000
    decided = (SoftSkip(cause=str(entry_id), rule=SLEEP, of=0),) if state.skipping else ()
    if state.video_at_ms is not None and state.video_at_ms < since_ms:
        state = replace(state, video_head_us=None, video_at_ms=None, gaps_us=(), sampled_us=None)
    if state.audio_at_ms is not None and state.audio_at_ms < since_ms:
        state = replace(state, audio_at_ms=None)
    state = replace(
        state, late_us=None, late_sum=(0, 0), late_samples=0, late_frames=0, skipping=False, skip_frames=0, caught_up=0
    )
    return state, decided
