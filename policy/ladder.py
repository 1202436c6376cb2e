"""The video ladder: quality, then frame rate, then resolution; restored in reverse, one rung at a time.

Only frames that carry the rung in force count, for anything here: those of another rung were taken before the step took
effect, or while decisions came late, and say nothing of this one.

A frame's ratio is runtime / max(frame interval of the rung, median of the last 20 input intervals), in per mille; in a
rule it is the mean of the last 5 that counted since the last step. After a step in either direction, 20 outcomes are
settling: nothing counts in them, and all runs start after them.

| rule | condition | decision |
|---|---|---|
| `video.slow` | ratio > 0.75 for 40 published frames | one rung down |
| `video.drops` | more than 10 of the last 100 outcomes stale or superseded, past the grace | one rung down |
| `video.late` | the sync rules ask for it | one rung down |
| `video.up` | 300 stable frames, at most 2 % exceptions, and expected < 0.75 on the upper rung | one rung up |
| `video.probe` | four times as many stable frames | one rung up |
| relapse | a rung down within 2400 outcomes of going up | none: the 300 doubles for that rung, at most 4800 |
| calm | 4800 outcomes on a rung without a step | none: this rung's and the lower ones' 300 again |
| `video.overload` | ratio > 0.75 for 100 frames on the lowest rung | `VideoOverloaded`; anew after 100 within budget |

Stable: ratio < 0.60, and late <= 45 ms or unknown. A frame that was late, stale or superseded is an exception like one
that is not stable; soft skips, and what says nothing of speed (invalid, engine, ended), neither count nor reset. More
exceptions than 2 % of what is to be reached start the count again, and a step up is taken on a stable frame only.

Expected is the ratio that the upper rung had when it was left downwards, scaled by how much this rung's has changed
since 40 frames counted after that, or since it was left downwards itself, if fewer had. Unknown is taken as affordable.
These ratios are trends, means of the last 40 to 80 frames: it is asked frame after frame, and the mean of 5 would be
low enough for once, by noise alone. Drops within 1.5 s of `WorkerTook` are in the grace.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from schemas.decisions import PolicyDecision, SetVideo, VideoOverloaded
from schemas.events import DropReason
from schemas.ids import EntryId
from schemas.policy_config import VIDEO_LADDER, PolicyConfig

SLOW, DROPS, LATE, UP, PROBE, OVERLOAD = (
    "video.slow",
    "video.drops",
    "video.late",
    "video.up",
    "video.probe",
    "video.overload",
)
BOTTOM = len(VIDEO_LADDER) - 1
INTERVAL_US = tuple(1_000_000 // rung.fps for rung in VIDEO_LADDER)
_WORKER_BEHIND = (DropReason.STALE, DropReason.SUPERSEDED)
_EXCEPTIONS = (*_WORKER_BEHIND, DropReason.LATE)
_EACH_RUNG = (0,) * len(VIDEO_LADDER)


class LadderState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What the ladder remembers. Ratios are per mille; 0 where one is unknown."""

    rung: int = 0
    input_us: int | None = None
    """pts of the newest input that had an outcome."""
    intervals_us: tuple[int, ...] = ()
    """Last input intervals, newest last."""
    median_us: int = 0
    """Of `intervals_us`: the upper one of the middle two."""
    ratios: tuple[int, ...] = ()
    """Of the last frames that counted on this rung, newest last."""
    trend: tuple[int, int] = (0, 0)
    """Sum and number of the ratios on this rung; both are halved as the number reaches twice the rule's run."""
    over: int = 0
    """Consecutive frames over budget."""
    overloaded: bool = False
    """Whether `VideoOverloaded` stands for this rung."""
    relieved: int = 0
    """Consecutive frames within budget while it stands."""
    stable: int = 0
    """Frames towards a step up, exceptions among them."""
    exceptions: int = 0
    since_step: int = 0
    """Outcomes since the last step, or since the start."""
    settling: int = 0
    """Outcomes of settling still to come."""
    drops: tuple[int, ...] = ()
    """`since_step` of the newest stale and superseded outcomes: one more of them than the rule allows."""
    climbed: bool = False
    """Whether the last step was up."""
    left_pm: tuple[int, ...] = _EACH_RUNG
    """Each rung's ratio when it was last left downwards."""
    below_pm: tuple[int, ...] = _EACH_RUNG
    """The ratio that was found on the rung below, then."""
    doublings: tuple[int, ...] = _EACH_RUNG
    """How many times each rung's count towards a step up to it was doubled."""

    @property
    def ratio_pm(self) -> int | None:
        """The ratio that rules see; None before a frame has counted on this rung."""
        return sum(self.ratios) // len(self.ratios) if self.ratios else None

    @property
    def trend_pm(self) -> int:
        """The ratio over a longer time; 0 before a frame has counted on this rung."""
        return self.trend[0] // self.trend[1] if self.trend[1] else 0


def on_published(
    state: LadderState, config: PolicyConfig, entry_id: EntryId, *, pts_us: int, runtime_us: int, late_us: int | None
) -> tuple[LadderState, Sequence[PolicyDecision]]:
    """Fold a frame that was published; `late_us` is the sync rules' last sample."""
    input_us, intervals_us, median_us = _input(state, config, pts_us)
    since_step, rung = state.since_step + 1, state.rung
    if state.settling:
        settled = replace(
            state,
            input_us=input_us,
            intervals_us=intervals_us,
            median_us=median_us,
            since_step=since_step,
            settling=state.settling - 1,
        )
        return settled, ()
    own_pm = runtime_us * 1000 // max(INTERVAL_US[rung], median_us)
    ratios = (*state.ratios, own_pm)[-config.ratio_memory :]
    trend_sum, trend_frames = state.trend[0] + own_pm, state.trend[1] + 1
    if trend_frames >= 2 * config.video_down_frames:
        trend_sum, trend_frames = trend_sum // 2, trend_frames // 2
    ratio_pm = sum(ratios) // len(ratios)
    over = state.over + 1 if ratio_pm > config.video_down_pm else 0
    stable, exceptions, steady = 0, 0, False
    if rung > 0:
        steady = ratio_pm < config.video_up_pm and (late_us is None or late_us <= config.skip_late_us)
        stable, exceptions = _towards_up(state, config, exception=not steady)
    state = replace(
        state,
        input_us=input_us,
        intervals_us=intervals_us,
        median_us=median_us,
        ratios=ratios,
        trend=(trend_sum, trend_frames),
        over=over,
        stable=stable,
        exceptions=exceptions,
        since_step=since_step,
    )
    if rung > 0 and state.below_pm[rung - 1] == 0 and trend_frames >= config.video_down_frames:
        state = replace(state, below_pm=_with(state.below_pm, rung - 1, max(1, state.trend_pm)))
    if since_step == config.video_up_most_frames:
        state = _calm(state)
    if rung < BOTTOM and over >= config.video_down_frames:
        return _down(state, config, entry_id, SLOW)
    if rung == BOTTOM:
        state, facts = _on_bottom(state, config, entry_id, ratio_pm)
        if facts:
            return state, facts
    if steady and (rule := _ripe(state, config)) is not None:
        return _move(state, config, entry_id, rung - 1, rule)
    return state, ()


def _on_bottom(
    state: LadderState, config: PolicyConfig, entry_id: EntryId, ratio_pm: int
) -> tuple[LadderState, Sequence[PolicyDecision]]:
    """Say once that the lowest rung is too much, until it has not been for as long: noise breaks a run for nothing."""
    if state.overloaded:
        relieved = 0 if state.over else state.relieved + 1
        return replace(state, relieved=relieved, overloaded=relieved < config.video_overload_frames), ()
    if state.over < config.video_overload_frames:
        return state, ()
    state = replace(state, overloaded=True, relieved=0)
    return state, (VideoOverloaded(cause=str(entry_id), rule=OVERLOAD, ratio_pm=ratio_pm),)


def on_dropped(
    state: LadderState, config: PolicyConfig, entry_id: EntryId, *, pts_us: int, reason: DropReason, grace: bool
) -> tuple[LadderState, Sequence[PolicyDecision]]:
    """Fold a frame that was not published; `grace` says that a worker took over just now."""
    input_us, intervals_us, median_us = _input(state, config, pts_us)
    settling = state.settling
    state = replace(
        state,
        input_us=input_us,
        intervals_us=intervals_us,
        median_us=median_us,
        since_step=state.since_step + 1,
        settling=max(0, settling - 1),
    )
    if state.since_step == config.video_up_most_frames:
        state = _calm(state)
    if settling or reason not in _EXCEPTIONS:
        return state, ()
    if state.rung > 0:
        stable, exceptions = _towards_up(state, config, exception=True)
        state = replace(state, stable=stable, exceptions=exceptions)
    if grace or reason not in _WORKER_BEHIND:
        return state, ()
    drops = (*state.drops, state.since_step)[-config.video_drops - 1 :]
    state = replace(state, drops=drops)
    if len(drops) > config.video_drops and state.since_step - drops[0] < config.video_drops_of and state.rung < BOTTOM:
        return _down(state, config, entry_id, DROPS)
    return state, ()


def on_other(state: LadderState, config: PolicyConfig, *, pts_us: int) -> LadderState:
    """Fold a frame of another rung than the one in force: only that it came."""
    input_us, intervals_us, median_us = _input(state, config, pts_us)
    return replace(state, input_us=input_us, intervals_us=intervals_us, median_us=median_us)


def on_request(
    state: LadderState, config: PolicyConfig, entry_id: EntryId
) -> tuple[LadderState, Sequence[PolicyDecision]]:
    """Take a step down for the sync rules, unless the ladder settles or is at its end."""
    if state.settling or state.rung == BOTTOM:
        return state, ()
    return _down(state, config, entry_id, LATE)


def wait(state: LadderState, config: PolicyConfig, rung: int) -> int:
    """Return how many stable frames a step up to `rung` takes."""
    return min(config.video_up_frames << state.doublings[rung], config.video_up_most_frames)


def _input(state: LadderState, config: PolicyConfig, pts_us: int) -> tuple[int, tuple[int, ...], int]:
    """Return the newest pts, the input intervals and their median after a frame of `pts_us`."""
    last_us, old, median_us = state.input_us, state.intervals_us, state.median_us
    if last_us is None:
        return pts_us, old, median_us
    new_us = pts_us - last_us
    if new_us <= 0:
        return last_us, old, median_us
    if len(old) == config.video_interval_memory:
        gone_us, kept = old[0], (*old[1:], new_us)
        # One value instead of another on the same side of the median does not move it: most frames need no sorting.
        if new_us == gone_us or new_us < median_us > gone_us or new_us > median_us < gone_us:
            return pts_us, kept, median_us
    else:
        kept = (*old, new_us)
    return pts_us, kept, sorted(kept)[len(kept) // 2]


def _calm(state: LadderState) -> LadderState:
    """Forget the relapses of the rung in force and of those below: it has held."""
    return replace(state, doublings=(*state.doublings[: state.rung], *_EACH_RUNG[state.rung :]))


def _towards_up(state: LadderState, config: PolicyConfig, *, exception: bool) -> tuple[int, int]:
    """Return the count towards a step up, and the exceptions in it, after one more frame."""
    stable, exceptions = state.stable + 1, state.exceptions + exception
    if exception:
        reach = max(wait(state, config, state.rung - 1), stable)
        if exceptions * 1000 > config.video_up_exceptions_pm * reach:
            return 0, 0
    return stable, exceptions


def _ripe(state: LadderState, config: PolicyConfig) -> str | None:
    """Return the rule by which the ladder goes up now; None when it stays."""
    upper = state.rung - 1
    need = wait(state, config, upper)
    if state.stable < need:
        return None
    expected_pm, below_pm = state.left_pm[upper], state.below_pm[upper]
    if below_pm:
        expected_pm = expected_pm * state.trend_pm // below_pm
    if expected_pm < config.video_down_pm:
        return UP
    return PROBE if state.stable >= need * config.video_probe_times else None


def _down(
    state: LadderState, config: PolicyConfig, entry_id: EntryId, rule: str
) -> tuple[LadderState, Sequence[PolicyDecision]]:
    rung = state.rung
    if state.climbed and state.since_step <= config.video_relapse_frames:
        limited = wait(state, config, rung) >= config.video_up_most_frames
        doublings = state.doublings if limited else _with(state.doublings, rung, state.doublings[rung] + 1)
        state = replace(state, doublings=doublings)
    # Under a load that came suddenly the trend still has calm frames in it.
    left_pm = _with(state.left_pm, rung, max(state.trend_pm, state.ratio_pm or 0))
    below_pm = _with(state.below_pm, rung, 0)
    if rung > 0 and below_pm[rung - 1] == 0:
        # Passed through: later, in calm, it would say that nothing has changed since, and only a probe would lead up.
        if state.trend_pm:
            below_pm = _with(below_pm, rung - 1, state.trend_pm)
        else:
            left_pm = _with(left_pm, rung - 1, 0)
    state = replace(state, left_pm=left_pm, below_pm=below_pm)
    return _move(state, config, entry_id, rung + 1, rule)


def _move(
    state: LadderState, config: PolicyConfig, entry_id: EntryId, rung: int, rule: str
) -> tuple[LadderState, Sequence[PolicyDecision]]:
    state = replace(
        state,
        rung=rung,
        ratios=(),
        trend=(0, 0),
        over=0,
        overloaded=False,
        stable=0,
        exceptions=0,
        since_step=0,
        settling=config.video_settle_frames,
        drops=(),
        climbed=rung < state.rung,
    )
    to = VIDEO_LADDER[rung]
    decision = SetVideo(cause=str(entry_id), rule=rule, rung=rung, quality=to.quality, fps=to.fps, size=to.size)
    return state, (decision,)


def _with(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])
