"""Properties of the whole fold, on random but plausible sessions: what holds whatever happens.

A machine plays a session (both media, drops, takeovers, reports, re-delivered events, gaps, clocks that jump) and looks
after every event; at the end the tape is cut, repeated and shuffled.
"""

from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from policy.ladder import wait
from policy.reducer import Decided, PolicyState, step
from policy.snapshot import STATE, pack, unpack
from schemas.decisions import (
    PER_CAUSE,
    Abandon,
    DropVideoUntil,
    LatencyTargetMissed,
    PolicyDecision,
    SetChunk,
    SetVideo,
    SoftSkip,
    VoiceFailed,
    VoiceRestored,
)
from schemas.events import DropReason, FrameThinned, MetricEvent, Outcome, Report, SessionStarted
from schemas.ids import EntryId
from schemas.policy_config import CHUNK_LADDER_MS, VIDEO_LADDER, PolicyConfig
from tests.policy.simulator.load import VideoCost, VoiceCost
from tests.policy.simulator.run import Scenario, run
from tests.policy.simulator.session import Client
from tests.policy.tape import Tape, eventful

Entries = Sequence[tuple[EntryId, MetricEvent]]

QUICK = PolicyConfig(
    chunk_grow_chunks=4,
    chunk_shrink_chunks=8,
    chunk_relapse_chunks=20,
    voice_fail_chunks=4,
    voice_retry_ms=400,
    voice_retry_most_ms=1600,
    latency_reports=3,
    sync_grace_ms=200,
    skip_frames=8,
    skip_done_samples=3,
    skip_trial_frames=12,
    skip_rest_ms=2000,
    video_down_frames=6,
    video_drops=3,
    video_drops_of=15,
    video_settle_frames=3,
    video_up_frames=12,
    video_up_exceptions_pm=100,
    video_relapse_frames=30,
    video_up_most_frames=96,
    video_probe_times=2,
    video_overload_frames=10,
    invalid_frames=6,
    invalid_of=20,
)
"""Every rule within reach of a short random session: the counts differ, the rules do not."""

RATIOS = st.sampled_from((10, 300, 500, 590, 700, 760, 900, 1500))
REASONS = st.sampled_from(list(DropReason))
BOUNDED = 8_192
"""Bytes of a snapshot."""


def fold(entries: Entries, state: PolicyState | None = None) -> tuple[PolicyState, list[Decided]]:
    state = state or PolicyState()
    decided: list[Decided] = []
    for entry_id, event in entries:
        state, found = step(state, entry_id, event)
        decided += found
    return state, decided


def without_ids(state: PolicyState) -> PolicyState:
    """Return the state as far as it does not say which entry was folded last."""
    return msgspec.structs.replace(state, folded=(0, 0))


def assert_obeyable(decided: Sequence[PolicyDecision], *, chunk_ms: int) -> None:
    """Check: steps of one, floors that only rise, voices that fail and come back in turn, at most one abandon."""
    rung, chunk, floor, failed, skipping, missed = 0, CHUNK_LADDER_MS.index(chunk_ms), -(1 << 62), False, False, set()
    abandons = 0
    for decision in decided:
        match decision:
            case SetVideo():
                assert abs(decision.rung - rung) == 1
                assert (decision.rung > rung) == (decision.rule not in ("video.up", "video.probe"))
                rung = decision.rung
                to = VIDEO_LADDER[rung]
                assert (decision.quality, decision.fps, decision.size) == (to.quality, to.fps, to.size)
            case SetChunk():
                now = CHUNK_LADDER_MS.index(decision.chunk_ms)
                assert now - chunk == (1 if decision.rule == "audio.grow" else -1)
                assert not failed
                chunk = now
            case DropVideoUntil():
                assert decision.floor_us > floor
                floor = decision.floor_us
            case VoiceFailed():
                assert not failed
                assert chunk == len(CHUNK_LADDER_MS) - 1
                failed = True
            case VoiceRestored():
                assert failed
                failed = False
            case SoftSkip():
                assert (decision.of > 0) != skipping
                skipping = decision.of > 0
            case LatencyTargetMissed():
                assert decision.chunk_ms not in missed
                missed.add(decision.chunk_ms)
            case Abandon():
                abandons += 1
            case _:
                assert decision.rule == "video.overload"
                assert rung == len(VIDEO_LADDER) - 1
    assert abandons <= 1


class AnySession(RuleBasedStateMachine):
    """Plays a session, and folds it as it goes."""

    def __init__(self) -> None:
        super().__init__()
        self.chunk_ms = 192
        self.tape = Tape(config=QUICK)
        self.decided: list[Decided] = []
        self.epoch = 1
        self.looked = 0

    @initialize(chunk_ms=st.sampled_from(CHUNK_LADDER_MS))
    def start(self, chunk_ms: int) -> None:
        self.chunk_ms = chunk_ms
        self.tape = Tape(config=QUICK, chunk_ms=chunk_ms)

    @rule(ratio_pm=RATIOS, count=st.integers(1, 25), every_fifth_pm=RATIOS)
    def frames(self, ratio_pm: int, count: int, every_fifth_pm: int) -> None:
        for n in range(count):
            detected = n % 5 == 4
            self.tape.frame(
                every_fifth_pm if detected else ratio_pm,
                confidence_pm=900 if detected else None,
                epoch=self.epoch,
            )

    @rule(reason=REASONS, count=st.integers(1, 6))
    def drops(self, reason: DropReason, count: int) -> None:
        for _ in range(count):
            self.tape.drop(reason, epoch=self.epoch)

    @rule(ratio_pm=RATIOS, count=st.integers(1, 25), outcome=st.sampled_from(("converted", "converted", "gated")))
    def chunks(self, ratio_pm: int, count: int, outcome: str) -> None:
        for _ in range(count):
            self.tape.chunk(ratio_pm, outcome=outcome)

    @rule(reason=REASONS)
    def skip(self, reason: DropReason) -> None:
        self.tape.skip(reason)

    @rule(
        late_us=st.sampled_from((-60_000, 10_000, 40_000, 60_000, 120_000, 151_000, 400_000)), count=st.integers(1, 12)
    )
    def frames_beside_sound(self, late_us: int, count: int) -> None:
        for _ in range(count):
            self.tape.frame(epoch=self.epoch)
            self.tape.sample(late_us)

    @rule(gap_ms=st.sampled_from((1, 300, 1_001, 5_000, 70_000)), media_us=st.integers(-2_000_000, 5_000_000))
    def a_gap(self, gap_ms: int, media_us: int) -> None:
        """Nothing happens for a while; media time jumps, back as well."""
        self.tape.ms += gap_ms
        self.tape.pts_us = max(0, self.tape.pts_us + media_us)

    @rule(kind=st.sampled_from(("video", "voice", "policy")))
    def takeover(self, kind: str) -> None:
        self.epoch += 1
        self.tape.took(kind, epoch=self.epoch)

    @rule()
    def a_zombie_reports(self) -> None:
        self.tape.frame(4000, epoch=0)

    @rule(media=st.sampled_from(("video", "audio")), count=st.integers(1, 3))
    def rejections(self, media: str, count: int) -> None:
        for _ in range(count):
            self.tape.rejected(media)

    @rule(frames=st.integers(0, 30))
    def thinned(self, frames: int) -> None:
        self.tape.thinned(frames)

    @rule(e2e_us=st.sampled_from((120_000, 249_999, 251_000, 900_000)), count=st.integers(1, 4))
    def playback(self, e2e_us: int, count: int) -> None:
        for _ in range(count):
            self.tape.playback(e2e_us)

    @rule(seed=st.integers(0, 1 << 16), count=st.integers(1, 10))
    def delivered_again(self, seed: int, count: int) -> None:
        """Outcomes and reports that were folded come again, as new entries, in any order: they change nothing."""
        once = [event for _, event in self.tape.events if isinstance(event, (Outcome, Report))]
        for event in Random(seed).choices(once, k=count) if once else ():
            before = without_ids(self.tape.state)
            assert self.tape.event(event) == []
            assert without_ids(self.tape.state) == before

    @invariant()
    def what_was_decided_can_be_obeyed(self) -> None:
        if len(self.tape.decided) != self.looked:
            self.looked = len(self.tape.decided)
            assert_obeyable(self.tape.decided, chunk_ms=self.chunk_ms)

    @invariant()
    def the_state_is_within_its_bounds(self) -> None:
        state = self.tape.state
        assert len(pack(state)[STATE]) <= BOUNDED
        assert all(
            QUICK.video_up_frames <= wait(state.ladder, QUICK, rung) <= QUICK.video_up_most_frames
            for rung in range(len(VIDEO_LADDER))
        )
        assert unpack(pack(state)) == state

    def teardown(self) -> None:
        entries, end = self.tape.events, self.tape.state
        state, decided = fold(entries)
        assert state == end
        assert [decision for _, decision in decided] == self.tape.decided
        assert_identified(decided)
        assert fold(entries, state) == (state, []), "folded twice is folded once"
        cut = len(entries) * 2 // 3
        head, first = fold(entries[:cut])
        assert fold(entries[cut:], unpack(pack(head))) == (end, decided[len(first) :]), "resumed from a snapshot"


def assert_identified(decided: Sequence[Decided]) -> None:
    """Every ID is that of its cause, they rise, and there is room for every decision of a cause."""
    ids = [found_id for found_id, _ in decided]
    assert ids == sorted(set(ids))
    for found_id, decision in decided:
        cause = EntryId.parse(decision.cause)
        assert found_id.ms == cause.ms
        assert found_id.n // PER_CAUSE == cause.n


def test_whatever_happens_decisions_can_be_obeyed_and_folds_are_equal() -> None:
    run_state_machine_as_test(
        AnySession,
        settings=settings(
            max_examples=60, stateful_step_count=80, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


@pytest.fixture(scope="module")
def entries() -> list[tuple[EntryId, MetricEvent]]:
    """Return a session in which every rule fires under the default thresholds."""
    return eventful().events


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_session_cut_anywhere_and_resumed_from_its_snapshot_is_one_fold(
    entries: list[tuple[EntryId, MetricEvent]], data: st.DataObject
) -> None:
    """Any number of cuts; the successor is handed what the predecessor folded as well, from any point before."""
    whole = fold(entries)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=4)))
    state, decided = PolicyState(), list[Decided]()
    for begin, end in zip([0, *cuts], [*cuts, len(entries)], strict=True):
        again = data.draw(st.integers(0, begin))
        state, found = fold(entries[again:end], unpack(pack(state)))
        decided += found
    assert (state, decided) == whole


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_outcomes_and_reports_that_come_again_change_nothing(
    entries: list[tuple[EntryId, MetricEvent]], seed: int
) -> None:
    """After every event, with some chance, a handful of older ones comes again, shuffled, under new entry IDs."""
    random = Random(seed)
    state, decided = PolicyState(), list[Decided]()
    seen: list[MetricEvent] = []
    for entry_id, event in entries:
        state, found = step(state, entry_id, event)
        decided += found
        if isinstance(event, (Outcome, Report)):
            seen.append(event)
        if seen and random.random() < 0.1:
            for n, again in enumerate(random.sample(seen, min(len(seen), 5)), start=1):
                state, found = step(state, EntryId(entry_id.ms, n), again)
                assert found == ()
    once, expected = fold(entries)
    assert decided == expected
    assert without_ids(state) == without_ids(once)


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"chunk_grow_chunks": 1 << 40}, "audio."),
        ({"chunk_shrink_chunks": 1 << 40}, "audio."),
        ({"voice_fail_chunks": 1 << 40}, "audio."),
        ({"latency_us": 1 << 40}, "audio.latency"),
        ({"invalid_frames": 150}, "health."),
        ({"skip_frames": 1 << 40}, "sync."),
        ({"skip_rest_ms": 1 << 40}, "sync."),
        ({"face_stable_pm": 1}, "nothing"),
        ({"video_overload_frames": 1 << 40}, "video.overload"),
        ({"video_probe_times": 50}, "video."),
    ],
)
def test_another_threshold_changes_its_own_rules_and_nothing_else(
    entries: list[tuple[EntryId, MetricEvent]], change: dict[str, int], rules: str
) -> None:
    """The same events under another config: decisions of every other family are the same, with the same causes."""
    started_id, started = entries[0]
    assert isinstance(started, SessionStarted)
    other = msgspec.structs.replace(started, config=PolicyConfig(**change))
    _, usual = fold(entries)
    _, found = fold([(started_id, other), *entries[1:]])

    def beside(decided: Sequence[Decided]) -> list[PolicyDecision]:
        return [decision for _, decision in decided if not decision.rule.startswith(rules)]

    assert beside(found) == beside(usual)
    assert (found != usual) is (rules != "nothing")


def test_a_snapshot_stays_small_over_hours() -> None:
    """Two hours of a loaded session, with a new connection every ten seconds."""
    (seen,) = run(Scenario(minutes=15, clients=(Client(video=VideoCost(55_000), voice=VoiceCost(60_000, 600_000)),)))
    state, tape = seen.session.driver.state, Tape()
    tape.state, tape.ms = state, state.folded[0]
    for n in range(720):
        report = FrameThinned(producer=f"ingress-{n:07}-{n:032x}", seq=0, frames=1)
        tape.event(report, after_ms=10_000)
    assert tape.state.folded[0] - state.folded[0] >= 7_200_000
    assert len(pack(tape.state)[STATE]) <= BOUNDED
