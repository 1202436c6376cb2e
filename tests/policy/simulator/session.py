"""One simulated session: a client, the edge, two workers' tasks and the policy, wired as the live parts are.

Frames are chosen by `workers.freshness` and thinned by `ingress.thinning`, decisions are made by `policy.driver` from
encoded events, so what is simulated is time: when things come, and how long they take.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from msgspec.structs import replace

from ingress.thinning import Thinner
from policy.driver import Driver
from schemas.decisions import (
    Decision,
    DropVideoUntil,
    PolicyDecision,
    SetChunk,
    SetVideo,
    SoftSkip,
    VoiceFailed,
    VoiceRestored,
)
from schemas.events import (
    AudioProcessed,
    AudioSkipped,
    DropReason,
    FrameThinned,
    MetricEvent,
    Outcome,
    Playback,
    SessionStarted,
    VideoDropped,
    VideoProcessed,
    WorkerTook,
)
from schemas.ids import EntryId, IdSource
from schemas.media import VOICE_ON, VOICE_SILENT, MediaEntry, MediaHeader
from schemas.message import encode
from schemas.names import Kind
from schemas.policy_config import VIDEO_LADDER, PolicyConfig
from tests.policy.simulator.load import Speech, VideoCost, VoiceCost
from tests.policy.simulator.machine import Engine, Timeline
from workers.freshness import Limits, Order, SoftSkipping, burst_size, select

BASE_MS = 1_000_000
SECOND_US = 1_000_000
UPLINK_US, JITTER_US = 15_000, 10_000
ORDER_US = 20_000
"""From a decision to whoever obeys it."""
PLAYER_US = 60_000
"""What the player holds before it plays, and the way there."""
CHEAP_US = 300
"""What a silent chunk costs."""
VIDEO_LIMITS = Limits(Order.NEWEST, 400)
AUDIO_LIMITS = Limits(Order.FIFO, 800)


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who publishes, and what that costs."""

    camera_fps: int = 20
    obeys: bool = True
    """Whether it captures at the frame rate in force, or sends what its camera gives."""
    speech: Speech = field(default_factory=Speech)
    video: VideoCost = field(default_factory=VideoCost)
    voice: VoiceCost = field(default_factory=VoiceCost)
    chunk_ms: int = 192
    config: PolicyConfig = field(default_factory=PolicyConfig)


@dataclass
class _Task:
    """A media worker's task: what it has read, and what it works on."""

    queue: list[MediaEntry] = field(default_factory=list)
    batch: list[MediaEntry] = field(default_factory=list)
    at_work: MediaEntry | None = None
    arrived_us: int = 0
    free_since_us: int = 0
    runtime_us: int = 0
    epoch: int = 1
    dead: bool = False


class Session:
    """Publishes from `begin` on, for as long as the timeline runs."""

    def __init__(self, timeline: Timeline, client: Client, *, seed: int, video: Engine, voice: Engine) -> None:
        self._timeline, self._client, self._random = timeline, client, Random(seed)
        self._video_engine, self._voice_engine = video, voice
        self._driver = Driver()
        self.decided: list[tuple[int, PolicyDecision]] = []
        """Media time in µs, and the decision."""
        self.recorded: list[tuple[EntryId, bytes]] = []
        self.outcomes: Counter[str] = Counter()
        self.frames_worked = 0
        self.e2e_us = 0
        self._rung, self._rung_number = VIDEO_LADDER[0], 0
        self._chunk_ms, self._voice_mode = client.chunk_ms, VOICE_ON
        self._floor_us: int | None = None
        self._skip_of = 0
        self._soft_skipping, self._thinner, self._thinned = SoftSkipping(), Thinner(), 0
        self._video, self._voice = _Task(), _Task()
        self._ids = IdSource(EntryId(0, 0), self._now_ms)
        self._frame_ids = IdSource(EntryId(0, 0), self._now_ms)
        self._chunk_ids = IdSource(EntryId(0, 0), self._now_ms)
        self._seq = 0

    def _now_ms(self) -> int:
        return BASE_MS + self._timeline.now_us // 1000

    @property
    def driver(self) -> Driver:
        """The policy."""
        return self._driver

    def begin(self) -> None:
        """Start the session."""
        self._emit(SessionStarted(chunk_ms=self._client.chunk_ms, config=self._client.config))
        for kind in (Kind.VIDEO, Kind.VOICE):
            self._emit(WorkerTook(kind=kind.value, worker="w", epoch=1))
        self._capture(0)
        self._cut(0)
        self._timeline.after(SECOND_US, self._report)

    # --- client and edge --------------------------------------------------------------------------------------------

    def _capture(self, n: int) -> None:
        client = self._client
        fps = min(client.camera_fps, self._rung.fps) if client.obeys else client.camera_fps
        uplink_us = UPLINK_US + self._random.randint(0, JITTER_US)
        self._timeline.after(uplink_us, self._frame, self._timeline.now_us)
        self._timeline.after(SECOND_US // fps, self._capture, n + 1)

    def _frame(self, pts_us: int) -> None:
        rung = self._rung
        if not self._thinner.admit(pts_us, rung.fps):
            self._thinned += 1
            return
        header = MediaHeader(
            pts_us=pts_us,
            sent_us=0,
            rung=self._rung_number,
            quality=rung.quality,
            size=rung.size,
            fps=rung.fps,
        )
        task = self._video
        task.queue.append(MediaEntry(self._frame_ids.take(), header, b""))
        if not task.dead and task.at_work is None:
            self._next_frame()

    def _cut(self, start_us: int) -> None:
        """Begin a chunk, of the length in force."""
        self._timeline.after(self._chunk_ms * 1000, self._chunk, start_us, self._chunk_ms)

    def _chunk(self, start_us: int, chunk_ms: int) -> None:
        self._timeline.after(UPLINK_US, self._sound, start_us, chunk_ms, self._voice_mode)
        self._cut(start_us + chunk_ms * 1000)

    def _sound(self, start_us: int, chunk_ms: int, voice: str) -> None:
        header = MediaHeader(pts_us=start_us, sent_us=0, chunk_ms=chunk_ms, voice=voice)
        task = self._voice
        task.queue.append(MediaEntry(self._chunk_ids.take(), header, b""))
        if not task.dead and task.at_work is None:
            self._next_chunk()

    def _report(self) -> None:
        self._timeline.after(SECOND_US, self._report)
        if self._thinned:
            self._emit(FrameThinned(producer="edge", seq=self._next_seq(), frames=self._thinned))
            self._thinned = 0
        if self.e2e_us:
            playback = Playback(
                producer="edge",
                seq=self._next_seq(),
                audio_us=0,
                video_us=0,
                buffered_us=PLAYER_US,
                underruns=0,
                e2e_us=self.e2e_us,
            )
            self._emit(playback)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    # --- workers ----------------------------------------------------------------------------------------------------

    def die(self) -> None:
        """Let the video worker die; its engine is to be restarted by whoever has it."""
        self._video.dead = True

    def take_over(self) -> None:
        """Let another video worker go on with everything that is not settled."""
        task = self._video
        lost = [] if task.at_work is None else [task.at_work]
        task.queue = [*lost, *task.batch, *task.queue]
        task.batch, task.at_work, task.dead = [], None, False
        task.epoch += 1
        task.free_since_us = self._timeline.now_us
        self._emit(WorkerTook(kind=Kind.VIDEO.value, worker="heir", epoch=task.epoch))
        self._next_frame()

    def _read(self, task: _Task) -> None:
        if not task.batch and task.queue:
            task.batch, task.queue = task.queue, []
            task.arrived_us = self._timeline.now_us

    def _next_frame(self) -> None:
        task = self._video
        task.at_work = None
        self._read(task)
        while task.batch:
            newest = (task.queue or task.batch)[-1] if len(task.batch) >= 8 else task.batch[-1]
            work, drops = select(
                task.batch,
                limits=VIDEO_LIMITS,
                floor_us=self._floor_us,
                newest_ms=newest.id.ms,
                waited_us=self._timeline.now_us - task.arrived_us,
                burst=burst_size(task.runtime_us, SECOND_US // task.batch[-1].header.fps),
            )
            reasons = [(drop.entry, drop.reason) for drop in drops if not work or drop.entry.id < work[0].id]
            if work and self._soft_skipping.leaves_out(self._skip_of):
                reasons.append((work[0], DropReason.SOFT_SKIP))
                work = []
            task.batch = task.batch[len(reasons) + len(work[:1]) :]
            for entry, reason in reasons:
                header = entry.header
                self._tell(
                    VideoDropped(
                        id=str(entry.id), pts_us=header.pts_us, rung=header.rung, epoch=task.epoch, reason=reason
                    )
                )
            if work:
                task.at_work = entry = work[0]
                cost_us = self._client.video.of(self.frames_worked, entry.header.size)
                self.frames_worked += 1
                self._video_engine.submit(cost_us, self._frame_done)
                return
            self._read(task)

    def _frame_done(self) -> None:
        task = self._video
        entry, now_us = task.at_work, self._timeline.now_us
        if entry is None or task.dead:
            return
        runtime_us = now_us - max(task.arrived_us, task.free_since_us)
        done = VideoProcessed(
            id=str(entry.id),
            pts_us=entry.header.pts_us,
            rung=entry.header.rung,
            epoch=task.epoch,
            runtime_us=runtime_us,
            stages_us={"swap": runtime_us},
            faces=1,
            detector_ran=self.frames_worked % 5 == 1,
            confidence_pm=900,
            outcome="swapped",
        )
        self._tell(done)
        task.free_since_us = now_us
        task.runtime_us = runtime_us if task.runtime_us == 0 else (3 * task.runtime_us + runtime_us) // 4
        self._next_frame()

    def _tell(self, outcome: Outcome) -> None:
        """Report a frame's outcome, in order, when it comes out of the pipeline."""
        if self._client.video.behind_us:
            self._timeline.after(self._client.video.behind_us, self._emit, outcome)
        else:
            self._emit(outcome)

    def _next_chunk(self) -> None:
        task = self._voice
        task.at_work = None
        self._read(task)
        while task.batch:
            work, drops = select(
                task.batch,
                limits=AUDIO_LIMITS,
                floor_us=None,
                newest_ms=task.batch[-1].id.ms,
                waited_us=self._timeline.now_us - task.arrived_us,
                burst=1,
            )
            reasons = [drop for drop in drops if not work or drop.entry.id < work[0].id]
            task.batch = task.batch[len(reasons) + len(work[:1]) :]
            for drop in reasons:
                entry = drop.entry
                self._emit(
                    AudioSkipped(id=str(entry.id), pts_us=entry.header.pts_us, epoch=task.epoch, reason=drop.reason)
                )
            if work:
                task.at_work = work[0]
                header = work[0].header
                speech = header.voice == VOICE_ON and self._client.speech.at(header.pts_us)
                cost_us = self._client.voice.of(header.chunk_ms * 1000) if speech else CHEAP_US
                self._voice_engine.submit(cost_us, self._chunk_done)
                return
            self._read(task)

    def _chunk_done(self) -> None:
        task = self._voice
        entry, now_us = task.at_work, self._timeline.now_us
        if entry is None:
            return
        header = entry.header
        speech = self._client.speech.at(header.pts_us)
        outcome = "silenced" if header.voice != VOICE_ON else "converted" if speech else "gated"
        runtime_us = now_us - max(task.arrived_us, task.free_since_us)
        self.e2e_us = now_us - header.pts_us + PLAYER_US
        self._emit(
            AudioProcessed(
                id=str(entry.id),
                pts_us=header.pts_us,
                epoch=task.epoch,
                duration_us=header.chunk_ms * 1000,
                runtime_us=runtime_us,
                stages_us={"convert": runtime_us},
                outcome=outcome,
            )
        )
        task.free_since_us = now_us
        self._next_chunk()

    # --- policy -----------------------------------------------------------------------------------------------------

    def _emit(self, event: MetricEvent | Outcome) -> None:
        match event:
            case VideoDropped() | AudioSkipped():
                self.outcomes[event.reason] += 1
            case VideoProcessed() | AudioProcessed():
                self.outcomes[event.outcome] += 1
            case _:
                pass
        entry_id, data = self._ids.take(), encode(event)
        self.recorded.append((entry_id, data))
        for _, decision in self._driver.fold(entry_id, data):
            self.decided.append((self._timeline.now_us, decision))
            self._timeline.after(ORDER_US, self._obey, decision)

    def _obey(self, decision: Decision) -> None:
        match decision:
            case SetVideo():
                self._rung_number = decision.rung
                self._rung = replace(self._rung, quality=decision.quality, fps=decision.fps, size=decision.size)
            case SetChunk():
                self._chunk_ms = decision.chunk_ms
            case DropVideoUntil():
                self._floor_us = decision.floor_us
            case SoftSkip():
                self._skip_of = decision.of
            case VoiceFailed():
                self._voice_mode = VOICE_SILENT
            case VoiceRestored():
                self._voice_mode = VOICE_ON
            case _:
                pass
