"""A session's metric events, made one by one and folded at once; the tape keeps them for folding again."""

from policy.ladder import INTERVAL_US
from policy.reducer import PolicyState, step
from schemas.decisions import PolicyDecision
from schemas.events import (
    AudioProcessed,
    AudioSkipped,
    DropReason,
    FrameRejected,
    FrameThinned,
    MetricEvent,
    Playback,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import EntryId
from schemas.policy_config import PolicyConfig

FRAME_MS = 50
SETTLED = PolicyConfig().video_settle_frames


class Tape:
    """Folds what its methods say; each returns the decisions of its event."""

    def __init__(self, *, chunk_ms: int = 192, config: PolicyConfig | None = None) -> None:
        """Start a session."""
        self.state = PolicyState()
        self.events: list[tuple[EntryId, MetricEvent]] = []
        self.decided: list[PolicyDecision] = []
        self.ms = 1_000_000
        self.pts_us = 0
        self._input = 0
        self._seq = 0
        self.event(SessionStarted(chunk_ms=chunk_ms, config=config or PolicyConfig()))

    def event(self, event: MetricEvent, *, after_ms: int = 1) -> list[PolicyDecision]:
        self.ms += after_ms
        entry_id = EntryId(self.ms, 0)
        self.events.append((entry_id, event))
        self.state, found = step(self.state, entry_id, event)
        decisions = [decision for _, decision in found]
        self.decided += decisions
        return decisions

    def frame(
        self,
        ratio_pm: int = 100,
        *,
        after_ms: int = FRAME_MS,
        gap_us: int = FRAME_MS * 1000,
        faces: int = 1,
        confidence_pm: int | None = None,
        rung: int | None = None,
        epoch: int = 1,
    ) -> list[PolicyDecision]:
        """Publish a frame of the rung in force, or of `rung`, with this ratio to the rung's own frame interval.

        `confidence_pm` says that it was detected.
        """
        self.pts_us += gap_us
        interval_us = INTERVAL_US[self.state.ladder.rung]
        return self.event(
            VideoProcessed(
                id=self._next_input(),
                pts_us=self.pts_us,
                rung=self.state.ladder.rung if rung is None else rung,
                epoch=epoch,
                runtime_us=-(-ratio_pm * interval_us // 1000),
                stages_us={},
                faces=faces,
                detector_ran=confidence_pm is not None,
                confidence_pm=confidence_pm or 0,
                outcome="swapped",
            ),
            after_ms=after_ms,
        )

    def frames(self, count: int, ratio_pm: int = 100) -> list[PolicyDecision]:
        return [decision for _ in range(count) for decision in self.frame(ratio_pm)]

    def drop(self, reason: DropReason, *, after_ms: int = FRAME_MS, epoch: int = 1) -> list[PolicyDecision]:
        self.pts_us += FRAME_MS * 1000
        rung = self.state.ladder.rung
        dropped = VideoDropped(id=self._next_input(), pts_us=self.pts_us, rung=rung, epoch=epoch, reason=reason)
        return self.event(dropped, after_ms=after_ms)

    def chunk(
        self,
        ratio_pm: int = 600,
        *,
        outcome: str = "converted",
        after_ms: int = 192,
        end_us: int | None = None,
        chunk_ms: int | None = None,
        epoch: int = 1,
    ) -> list[PolicyDecision]:
        """Publish a chunk of the size in force, or of another; it follows the sound before it, or ends at `end_us`."""
        duration_us = (self.state.audio.chunk_ms if chunk_ms is None else chunk_ms) * 1000
        if end_us is None:
            end_us = (self.state.sync.audio_head_us or 0) + duration_us
        return self.event(
            AudioProcessed(
                id=self._next_input(),
                pts_us=end_us - duration_us,
                epoch=epoch,
                duration_us=duration_us,
                runtime_us=-(-ratio_pm * duration_us // 1000),
                stages_us={},
                outcome=outcome,
            ),
            after_ms=after_ms,
        )

    def chunks(self, count: int, ratio_pm: int = 600) -> list[PolicyDecision]:
        return [decision for _ in range(count) for decision in self.chunk(ratio_pm)]

    def skip(self, reason: DropReason = DropReason.STALE) -> list[PolicyDecision]:
        return self.event(AudioSkipped(id=self._next_input(), pts_us=0, epoch=1, reason=reason))

    def sample(self, late_us: int, *, after_ms: int = 10) -> list[PolicyDecision]:
        """Publish sound that ends where video is late by this much: one frame interval is forgiven."""
        sync = self.state.sync
        forgiven_us = max(INTERVAL_US[self.state.ladder.rung], *sync.gaps_us, 0)
        end_us = (sync.video_head_us or 0) + forgiven_us + late_us
        return self.chunk(outcome="gated", after_ms=after_ms, end_us=end_us)

    def took(self, kind: str = "video", *, epoch: int = 1) -> list[PolicyDecision]:
        return self.event(WorkerTook(kind=kind, worker="w", epoch=epoch))

    def rejected(self, media: str = "video") -> list[PolicyDecision]:
        return self.event(FrameRejected(producer="conn", seq=self._next_seq(), media=media, reason="bad_jpeg"))

    def thinned(self, frames: int) -> list[PolicyDecision]:
        return self.event(FrameThinned(producer="conn", seq=self._next_seq(), frames=frames))

    def playback(self, e2e_us: int) -> list[PolicyDecision]:
        return self.event(
            Playback(
                producer="conn",
                seq=self._next_seq(),
                audio_us=0,
                video_us=0,
                buffered_us=0,
                underruns=0,
                e2e_us=e2e_us,
            )
        )

    def _next_input(self) -> str:
        self._input += 1
        return f"{self._input}-0"

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq


def rules(decisions: list[PolicyDecision]) -> list[str]:
    """Return the rules that fired."""
    return [decision.rule for decision in decisions]


def eventful() -> Tape:
    """Return a session in which every rule fires."""
    tape = Tape()
    tape.took()
    tape.took("voice")
    tape.thinned(3)
    for n in range(125):  # late, then skipped until it has caught up
        tape.frame(300, confidence_pm=900 if n % 5 == 0 else None)
        tape.sample(60_000, after_ms=1)
    for _ in range(12):
        tape.frame()
        tape.sample(10_000, after_ms=1)
    for _ in range(330):  # skipped for nothing
        tape.frame()
        tape.sample(60_000, after_ms=1)
    for _ in range(200):  # skipped again after a rest; and then nothing at all for a while
        tape.frame(after_ms=600)
        tape.sample(60_000, after_ms=1)
    tape.frame(after_ms=2_000)
    for _ in range(3):  # far too late
        tape.frame()
        tape.sample(200_000)
    tape.frames(SETTLED + 40, 900)
    tape.frames(SETTLED)
    for _ in range(11):
        tape.drop(DropReason.SUPERSEDED)
    tape.frames(SETTLED + 5, 590)
    tape.frames(300 + SETTLED, 10)
    tape.frames(3_000, 100)
    tape.frames(44, 900)
    tape.frames(1_300, 500)  # in budget here, by what is known not there: tried in the end
    tape.frames(800, 900)
    for _ in range(40):
        tape.playback(300_000)
    tape.chunks(130, 100)
    tape.chunks(300, 900)
    tape.chunk(outcome="silenced", after_ms=10_000)
    tape.took(epoch=2)
    for _ in range(61):
        tape.rejected()
    return tape
