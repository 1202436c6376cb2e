"""The policy: a pure fold over a session's metric events. No clock, no randomness, no I/O; integers only.

    step(state, id, event) -> (state, decisions)

Live and replay run exactly this. Rule families, one file each: `sync.py` (drop floor). Audio chunks, the video ladder
and session health join here, each with its own part of the state.

What counts, before any rule sees it ("folded once"):

| event | counts unless |
|---|---|
| outcome (processed, dropped, skipped) | its media ID is at or below the last folded one of that medium |
| the same | its epoch is below that of the last `WorkerTook` of that kind |
| any event | its own ID is at or below the last folded one |
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from policy import sync as sync_rules
from schemas.decisions import DropVideoUntil, PolicyDecision, decision_id
from schemas.errors import Misconfigured
from schemas.events import (
    AudioProcessed,
    AudioSkipped,
    MetricEvent,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import ZERO, EntryId
from schemas.names import Kind
from schemas.policy_config import RULES_VERSION, PolicyConfig

Decided = tuple[EntryId, PolicyDecision]
"""A decision with its stream ID."""


class PolicyState(msgspec.Struct, frozen=True, array_like=True):
    """Everything that policy remembers of a session."""

    config: PolicyConfig = PolicyConfig()
    folded: tuple[int, int] = ZERO
    """ID of the last metric event folded."""
    video: tuple[int, int] = ZERO
    """Input ID of the last video outcome folded."""
    audio: tuple[int, int] = ZERO
    video_epoch: int = 0
    voice_epoch: int = 0
    sync: sync_rules.SyncState = sync_rules.SyncState()


def step(state: PolicyState, entry_id: EntryId, event: MetricEvent) -> tuple[PolicyState, Sequence[Decided]]:
    """Fold one event; returns the new state and the decisions that it caused, in order."""
    if entry_id <= state.folded:
        return state, ()
    state = replace(state, folded=(entry_id.ms, entry_id.n))
    match event:
        case SessionStarted():
            if event.rules_version != RULES_VERSION:
                raise Misconfigured(f"events of rules version {event.rules_version}; this build has {RULES_VERSION}")
            return replace(state, config=event.config), ()
        case WorkerTook():
            return _on_took(state, event), ()
        case VideoProcessed() | VideoDropped():
            return _on_video(state, entry_id, event)
        case AudioProcessed() | AudioSkipped():
            return _on_audio(state, entry_id, event)
        case _:
            return state, ()


def _on_took(state: PolicyState, event: WorkerTook) -> PolicyState:
    match event.kind:
        case Kind.VIDEO:
            return replace(state, video_epoch=max(event.epoch, state.video_epoch))
        case Kind.VOICE:
            return replace(state, voice_epoch=max(event.epoch, state.voice_epoch))
        case _:
            return state


def _on_video(
    state: PolicyState, entry_id: EntryId, event: VideoProcessed | VideoDropped
) -> tuple[PolicyState, Sequence[Decided]]:
    media_id = EntryId.parse(event.id)
    if media_id <= state.video or event.epoch < state.video_epoch:
        return state, ()
    published = event.pts_us if isinstance(event, VideoProcessed) else None
    synced = sync_rules.on_video(state.sync, state.config, at_ms=entry_id.ms, published_pts_us=published)
    return replace(state, video=(media_id.ms, media_id.n), sync=synced), ()


def _on_audio(
    state: PolicyState, entry_id: EntryId, event: AudioProcessed | AudioSkipped
) -> tuple[PolicyState, Sequence[Decided]]:
    media_id = EntryId.parse(event.id)
    if media_id <= state.audio or event.epoch < state.voice_epoch:
        return state, ()
    end_us = event.pts_us + event.duration_us if isinstance(event, AudioProcessed) else None
    synced, floor_us = sync_rules.on_audio(state.sync, state.config, at_ms=entry_id.ms, end_us=end_us)
    state = replace(state, audio=(media_id.ms, media_id.n), sync=synced)
    if floor_us is None:
        return state, ()
    decision = DropVideoUntil(cause=str(entry_id), rule=sync_rules.RULE_DROP, floor_us=floor_us)
    return state, ((decision_id(entry_id, 0), decision),)
