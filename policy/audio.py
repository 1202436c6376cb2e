"""Sound: how long a chunk is, and whether the voice is converted at all.

Only chunks of the size in force with outcome `converted` count, and none while the voice is failed; gated, silenced,
passed and skipped ones neither count nor reset. A ratio is runtime / duration in per mille; in a rule it is the mean of
the last 5 that counted since the runs were last reset.

| rule | condition | decision |
|---|---|---|
| accept | the chunk's own ratio < 0.65 | none: it is counted as accepted |
| `audio.grow` | ratio > 0.75 for 40 chunks, not on the top rung | `SetChunk(next larger)`; all runs reset |
| `audio.shrink` | < 0.55 for 120, not on the lowest, and predicted < 0.65 | `SetChunk(next smaller)`; all runs reset |
| relapse | a grow within 600 chunks of a shrink | none: the 120 doubles, to 64 x at most, until the session ends |
| `audio.fail` | ratio > 0.80 for 40 chunks on the top rung | `VoiceFailed(retry after 10 s)`; all runs reset |
| `audio.restore` | the first audio outcome at or after the retry time | `VoiceRestored`, on the top rung |
| failed again | a fail within 600 chunks of a restore | the retry comes after twice as long, at most 160 s |
| `audio.latency` | median of the last 10 `Playback.e2e_us` on a rung > 250 ms | `LatencyTargetMissed`, once a rung |

Fail waits for the top rung because grow and fail ripen on the same chunk. The ratio predicted for the smaller chunk C'
is ratio x C / C': the cost of a chunk is taken as fixed, which is the worst case; a ripe shrink waits for it chunk by
chunk. A voice that fails later than 600 chunks after its restore starts at 10 s again.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from schemas.decisions import LatencyTargetMissed, PolicyDecision, SetChunk, VoiceFailed, VoiceRestored
from schemas.errors import Misconfigured
from schemas.events import AudioProcessed
from schemas.ids import EntryId
from schemas.policy_config import CHUNK_LADDER_MS, PolicyConfig

GROW, SHRINK, FAIL, RESTORE, LATENCY = "audio.grow", "audio.shrink", "audio.fail", "audio.restore", "audio.latency"
TOP = len(CHUNK_LADDER_MS) - 1


class AudioState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the sound rules remember. Ratios are per mille."""

    rung: int = CHUNK_LADDER_MS.index(192)
    ratios: tuple[int, ...] = ()
    """Of the last chunks that counted on this rung, newest last."""
    over: int = 0
    """Consecutive chunks that want to grow."""
    under: int = 0
    """… to shrink."""
    failing: int = 0
    """… to fail; counted on the top rung only."""
    converted: int = 0
    accepted: int = 0
    patience: int = 1
    """How many times the usual run a shrink takes."""
    since_shrink: int | None = None
    """Chunks that counted since the last shrink."""
    since_restore: int | None = None
    failed_ms: int | None = None
    """When the voice failed; None while it is converted."""
    retry_ms: int = 0
    """How long after the last fail it is, or was, tried again."""
    delays_us: tuple[int, ...] = ()
    """Last playback reports on this rung, newest last."""
    missed: int = 0
    """Rungs that `LatencyTargetMissed` was said of, a bit each."""

    @property
    def chunk_ms(self) -> int:
        """The chunk size in force."""
        return CHUNK_LADDER_MS[self.rung]

    @property
    def ratio_pm(self) -> int | None:
        """The ratio that rules see; None before a chunk has counted on this rung."""
        return sum(self.ratios) // len(self.ratios) if self.ratios else None


def start(chunk_ms: int) -> AudioState:
    """Return the state of a session that starts with this chunk size; raises `Misconfigured` off the ladder."""
    if chunk_ms not in CHUNK_LADDER_MS:
        raise Misconfigured(f"the session starts with chunks of {chunk_ms} ms; expected one of {CHUNK_LADDER_MS}")
    return AudioState(rung=CHUNK_LADDER_MS.index(chunk_ms))


def on_outcome(
    state: AudioState, config: PolicyConfig, entry_id: EntryId, event: AudioProcessed | None, *, open_loop: bool
) -> tuple[AudioState, Sequence[PolicyDecision]]:
    """Fold an audio outcome; None for a skipped chunk. In an open loop, chunks of every size count."""
    if state.failed_ms is not None:
        if entry_id.ms < state.failed_ms + state.retry_ms:
            return state, ()
        state = replace(state, failed_ms=None, since_restore=0)
        return state, (VoiceRestored(cause=str(entry_id), rule=RESTORE),)
    if event is None or event.outcome != "converted" or event.duration_us == 0:
        return state, ()
    if event.duration_us != state.chunk_ms * 1000 and not open_loop:
        return state, ()
    own_pm = event.runtime_us * 1000 // event.duration_us
    ratios = (*state.ratios, own_pm)[-config.ratio_memory :]
    ratio_pm = sum(ratios) // len(ratios)
    over = state.over + 1 if ratio_pm > config.chunk_grow_pm else 0
    under = state.under + 1 if ratio_pm < config.chunk_shrink_pm else 0
    failing = state.failing + 1 if state.rung == TOP and ratio_pm > config.voice_fail_pm else 0
    since_shrink, since_restore = state.since_shrink, state.since_restore
    state = replace(
        state,
        ratios=ratios,
        over=over,
        under=under,
        failing=failing,
        converted=state.converted + 1,
        accepted=state.accepted + (own_pm < config.chunk_accept_pm),
        since_shrink=None if since_shrink is None else since_shrink + 1,
        since_restore=None if since_restore is None else since_restore + 1,
    )
    return _decide(state, config, entry_id, ratio_pm)


def _decide(
    state: AudioState, config: PolicyConfig, entry_id: EntryId, ratio_pm: int
) -> tuple[AudioState, Sequence[PolicyDecision]]:
    """Apply the rules to the runs as they stand after a chunk that counted."""
    if state.failing >= config.voice_fail_chunks:
        return _fail(state, config, entry_id)
    if state.over >= config.chunk_grow_chunks and state.rung < TOP:
        if state.since_shrink is not None and state.since_shrink <= config.chunk_relapse_chunks:
            state = replace(state, patience=min(2 * state.patience, config.chunk_relapse_most))
        return _resize(state, entry_id, state.rung + 1, GROW)
    if state.under >= config.chunk_shrink_chunks * state.patience and state.rung > 0:
        smaller_ms = CHUNK_LADDER_MS[state.rung - 1]
        if ratio_pm * state.chunk_ms < config.chunk_accept_pm * smaller_ms:
            return _resize(replace(state, since_shrink=0), entry_id, state.rung - 1, SHRINK)
    return state, ()


def _resize(state: AudioState, entry_id: EntryId, rung: int, rule: str) -> tuple[AudioState, Sequence[PolicyDecision]]:
    state = replace(state, rung=rung, ratios=(), over=0, under=0, failing=0, delays_us=())
    return state, (SetChunk(cause=str(entry_id), rule=rule, chunk_ms=state.chunk_ms),)


def _fail(state: AudioState, config: PolicyConfig, entry_id: EntryId) -> tuple[AudioState, Sequence[PolicyDecision]]:
    again = state.since_restore is not None and state.since_restore <= config.chunk_relapse_chunks
    retry_ms = min(2 * state.retry_ms, config.voice_retry_most_ms) if again else config.voice_retry_ms
    state = replace(state, ratios=(), over=0, under=0, failing=0, failed_ms=entry_id.ms, retry_ms=retry_ms)
    return state, (VoiceFailed(cause=str(entry_id), rule=FAIL, retry_ms=retry_ms),)


def on_playback(
    state: AudioState, config: PolicyConfig, entry_id: EntryId, e2e_us: int
) -> tuple[AudioState, Sequence[PolicyDecision]]:
    """Fold a report of the publisher's player. The median of an even number is the mean of the middle two."""
    if state.missed >> state.rung & 1:
        return state, ()
    delays_us = (*state.delays_us, e2e_us)[-config.latency_reports :]
    if len(delays_us) == config.latency_reports:
        ranked, last = sorted(delays_us), len(delays_us) - 1
        median_us = (ranked[last // 2] + ranked[(last + 1) // 2]) // 2
        if median_us > config.latency_us:
            state = replace(state, delays_us=(), missed=state.missed | 1 << state.rung)
            missed = LatencyTargetMissed(cause=str(entry_id), rule=LATENCY, e2e_us=median_us, chunk_ms=state.chunk_ms)
            return state, (missed,)
    return replace(state, delays_us=delays_us), ()
