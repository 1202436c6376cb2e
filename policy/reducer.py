"""The policy: a pure fold over a session's metric events. No clock, no randomness, no I/O; integers only.

    step(state, id, event) -> (state, decisions)

Live and replay run exactly this. Rule families, one file each with its table: `audio.py` (chunk ladder, voice),
`sync.py` (drop floor, soft skip), `ladder.py` (video rungs), `faces.py` (figures), `health.py` (abandon). Time is the
millisecond part of the metric entry's ID.

What counts, before any rule sees it ("folded once"):

| event | counts unless |
|---|---|
| outcome (processed, dropped, skipped) | its media ID is at or below the last folded one of that medium |
| the same | its epoch is below that of the last `WorkerTook` of that kind |
| report | its sequence is at or below the producer's last one |
| any event | its own ID is at or below the last folded one |

Decisions of one event stand in this order: sync, video ladder, audio, health.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from policy import audio, faces, health, ladder, once, sync
from policy.audio import AudioState
from policy.faces import FacesState
from policy.health import HealthState
from policy.ladder import LadderState
from policy.sync import SyncState
from schemas.decisions import PolicyDecision, decision_id
from schemas.errors import Misconfigured
from schemas.events import (
    Acceptance,
    ArchiveStatus,
    AudioProcessed,
    AudioSkipped,
    Backlog,
    Detections,
    DropReason,
    FrameRejected,
    FrameThinned,
    Gpu,
    MetricEvent,
    Playback,
    RateLimited,
    Report,
    SessionStarted,
    TokenExpired,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import ZERO, EntryId
from schemas.names import Kind
from schemas.policy_config import RULES_VERSION, PolicyConfig

Decided = tuple[EntryId, PolicyDecision]
"""A decision with its stream ID."""


class PolicyState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything that policy remembers of a session."""

    config: PolicyConfig = PolicyConfig()
    open_loop: bool = False
    """Whether frames and chunks count that carry another rung than the one in force: under other thresholds than those
    that the media were made under, none would carry it."""
    folded: tuple[int, int] = ZERO
    """ID of the last metric event folded."""
    video_id: tuple[int, int] = ZERO
    """Input ID of the last video outcome folded."""
    audio_id: tuple[int, int] = ZERO
    video_epoch: int = 0
    voice_epoch: int = 0
    video_took_ms: int | None = None
    """When a worker last took the video work over."""
    producers: dict[str, int] = {}
    """Last sequence folded of each producer of reports, the one that reported last at the end."""
    unreadable: int = 0
    """Entries that were passed over because they could not be read."""
    sync: SyncState = SyncState()
    ladder: LadderState = LadderState()
    audio: AudioState = AudioState()
    faces: FacesState = FacesState()
    health: HealthState = HealthState()


Step = tuple[PolicyState, Sequence[Decided]]


def step(state: PolicyState, entry_id: EntryId, event: MetricEvent) -> Step:
    """Fold one event; returns the new state and the decisions that it caused, in order.

    Raises `CodecError` on an outcome whose input ID is none, `Misconfigured` on a session of other rules.
    """
    if entry_id <= state.folded:
        return state, ()
    fold = _FOLDS.get(event.__class__)
    return (replace(state, folded=entry_id), ()) if fold is None else fold(state, entry_id, event)


def pass_over(state: PolicyState, entry_id: EntryId) -> PolicyState:
    """Fold an entry that cannot be read: it is counted, and nothing else changes."""
    if entry_id <= state.folded:
        return state
    return replace(state, folded=entry_id, unreadable=state.unreadable + 1)


def _on_started(state: PolicyState, entry_id: EntryId, event: SessionStarted) -> Step:
    if event.rules_version != RULES_VERSION:
        raise Misconfigured(f"events of rules version {event.rules_version}; this build has {RULES_VERSION}")
    return replace(state, folded=entry_id, config=event.config, audio=audio.start(event.chunk_ms)), ()


def _on_took(state: PolicyState, entry_id: EntryId, event: WorkerTook) -> Step:
    state = replace(state, folded=entry_id)
    if event.kind == Kind.VOICE:
        return replace(state, voice_epoch=max(event.epoch, state.voice_epoch)), ()
    if event.kind != Kind.VIDEO or event.epoch < state.video_epoch:
        return state, ()
    state = replace(
        state,
        video_epoch=event.epoch,
        video_took_ms=entry_id.ms,
        sync=sync.on_took(state.sync),
        faces=faces.on_took(state.faces),
    )
    return state, ()


def _on_published(state: PolicyState, entry_id: EntryId, event: VideoProcessed) -> Step:
    media_id = once.input_id(event.id)
    if media_id <= state.video_id or event.epoch < state.video_epoch:
        return replace(state, folded=entry_id), ()
    config = state.config
    synced, skips = sync.on_video(state.sync, config, entry_id, event.pts_us)
    stepped = state.ladder
    moves: Sequence[PolicyDecision] = ()
    if event.rung == stepped.rung or state.open_loop:
        stepped, moves = ladder.on_published(
            stepped, config, entry_id, pts_us=event.pts_us, runtime_us=event.runtime_us, late_us=synced.late_us
        )
    else:
        stepped = ladder.on_other(stepped, config, pts_us=event.pts_us)
    state = replace(
        state,
        folded=entry_id,
        video_id=media_id,
        sync=synced,
        ladder=stepped,
        faces=faces.on_published(state.faces, config, event),
        health=health.on_valid(state.health),
    )
    return state, _identified(entry_id, (*skips, *moves)) if skips or moves else ()


def _on_dropped(state: PolicyState, entry_id: EntryId, event: VideoDropped) -> Step:
    media_id = once.input_id(event.id)
    if media_id <= state.video_id or event.epoch < state.video_epoch:
        return replace(state, folded=entry_id), ()
    config = state.config
    reached_us = event.pts_us if event.reason is DropReason.SOFT_SKIP else None
    synced, skips = sync.on_video(state.sync, config, entry_id, reached_us)
    stepped = state.ladder
    moves: Sequence[PolicyDecision] = ()
    if event.rung == stepped.rung or state.open_loop:
        grace = _grace(state, entry_id)
        stepped, moves = ladder.on_dropped(
            stepped, config, entry_id, pts_us=event.pts_us, reason=event.reason, grace=grace
        )
    else:
        stepped = ladder.on_other(stepped, config, pts_us=event.pts_us)
    healthy, ends = health.on_frame(state.health, config, entry_id, invalid=event.reason is DropReason.INVALID)
    state = replace(state, folded=entry_id, video_id=media_id, sync=synced, ladder=stepped, health=healthy)
    return state, _identified(entry_id, (*skips, *moves, *ends))


def _on_audio(state: PolicyState, entry_id: EntryId, event: AudioProcessed | AudioSkipped) -> Step:
    media_id = once.input_id(event.id)
    if media_id <= state.audio_id or event.epoch < state.voice_epoch:
        return replace(state, folded=entry_id), ()
    config, stepped = state.config, state.ladder
    done = event if isinstance(event, AudioProcessed) else None
    synced, orders, degrade = sync.on_audio(
        state.sync,
        config,
        entry_id,
        end_us=None if done is None else done.pts_us + done.duration_us,
        interval_us=ladder.INTERVAL_US[stepped.rung],
        grace=_grace(state, entry_id),
    )
    moves: Sequence[PolicyDecision] = ()
    if degrade:
        stepped, moves = ladder.on_request(stepped, config, entry_id)
    sounded, sizes = audio.on_outcome(state.audio, config, entry_id, done, open_loop=state.open_loop)
    state = replace(state, folded=entry_id, audio_id=media_id, sync=synced, ladder=stepped, audio=sounded)
    return state, _identified(entry_id, (*orders, *moves, *sizes)) if orders or moves or sizes else ()


def _on_report(state: PolicyState, entry_id: EntryId, event: Report) -> Step:
    producers = once.note(state.producers, event)
    if producers is None:
        return replace(state, folded=entry_id), ()
    state = replace(state, folded=entry_id, producers=producers)
    decided: Sequence[PolicyDecision] = ()
    match event:
        case FrameRejected(media="video"):
            judged, decided = health.on_frame(state.health, state.config, entry_id, invalid=True)
            state = replace(state, health=judged)
        case FrameThinned():
            state = replace(state, health=health.on_valid(state.health, event.frames))
        case Playback():
            heard, decided = audio.on_playback(state.audio, state.config, entry_id, event.e2e_us)
            state = replace(state, audio=heard)
        case _:
            pass
    return state, _identified(entry_id, decided)


def _grace(state: PolicyState, entry_id: EntryId) -> bool:
    """Return whether a video worker took over so recently that nothing follows from what is late or dropped."""
    took_ms = state.video_took_ms
    return took_ms is not None and entry_id.ms - took_ms <= state.config.sync_grace_ms


def _identified(cause: EntryId, decisions: Sequence[PolicyDecision]) -> Sequence[Decided]:
    return tuple((decision_id(cause, k), decision) for k, decision in enumerate(decisions))


_FOLDS: dict[type, Callable[[PolicyState, EntryId, Any], Step]] = {
    SessionStarted: _on_started,
    WorkerTook: _on_took,
    VideoProcessed: _on_published,
    VideoDropped: _on_dropped,
    AudioProcessed: _on_audio,
    AudioSkipped: _on_audio,
    FrameRejected: _on_report,
    FrameThinned: _on_report,
    RateLimited: _on_report,
    TokenExpired: _on_report,
    Playback: _on_report,
    Backlog: _on_report,
    Detections: _on_report,
    Acceptance: _on_report,
    Gpu: _on_report,
    ArchiveStatus: _on_report,
}
"""What is not here (consent revoked, session ended) changes nothing that a rule looks at."""
