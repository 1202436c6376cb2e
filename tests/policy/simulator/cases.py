"""What is simulated, and what has to come of it: every case asserts its expectation and returns it in figures."""

from collections.abc import Callable
from dataclasses import dataclass

from policy.driver import Driver
from policy.ladder import BOTTOM
from schemas.decisions import VoiceFailed
from schemas.events import DropReason
from tests.policy.simulator.load import Slow, Speech, VideoCost, VoiceCost
from tests.policy.simulator.run import Scenario, Seen, run
from tests.policy.simulator.session import Client

SETTLED_S = 300
PROBES = {"video.probe", "video.slow", "video.drops"}
"""A step up on trial, and what follows when it was too much."""
CHEAP_VOICE = VoiceCost(5_000, 50_000)


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    rule: str
    behaviour: str
    check: Callable[[], str]


CASES: dict[str, Case] = {}


def case(rule: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    """Add a case; its docstring is the behaviour."""

    def add(check: Callable[[], str]) -> Callable[[], str]:
        CASES[check.__name__] = Case(rule, (check.__doc__ or "").strip(), check)
        return check

    return add


def alone(minutes: int, client: Client, **scenario: object) -> Seen:
    """Simulate one session."""
    (seen,) = run(Scenario(minutes=minutes, clients=(client,), **scenario))  # type: ignore[arg-type]
    return seen


def ms(fixed: int = 5, *, area: int = 0, detect: int = 0, behind: int = 0) -> VideoCost:
    """Return a cost in milliseconds."""
    return VideoCost(fixed * 1000, area * 1000, detect * 1000, behind * 1000)


@case("video ladder down")
def steady_load() -> str:
    """Find the rung of a steady load that no size changes within 5 min, and stay there; 10 % noise."""
    found = {}
    for cost, rung in ((10, 0), (25, 0), (34, 0), (40, 4), (46, 5), (56, 7), (80, 7), (140, 7)):
        seen = alone(15, Client(video=ms(cost)))
        assert seen.since(SETTLED_S).steps_per_hour == 0, (cost, seen.rungs, seen.chunks)
        assert seen.rungs == list(range(1, rung + 1)), (cost, seen.rungs)
        found[cost] = seen.rung
    return "frame cost ms -> rung: " + ", ".join(f"{cost} -> {rung}" for cost, rung in found.items())


@case("video ladder down, probe")
def steady_load_that_follows_the_area() -> str:
    """Where a smaller frame is much cheaper, the rung above is tried ever more seldom, and nothing else moves."""
    found = []
    for cost, rung in ((60, 6), (90, 7)):
        seen = alone(60, Client(video=ms(area=cost - 5), voice=CHEAP_VOICE, chunk_ms=320))
        later = seen.since(1800)
        assert {rule for rule in later.rules if rule.startswith("video")} <= PROBES, (cost, later.rules)
        assert len(later.rungs) <= 4, (cost, later.rungs)
        assert seen.rung_at(3600) == rung, (cost, seen.rungs)
        found.append(f"{cost} ms -> {rung}: {len(seen.rungs) - rung} and {len(later.rungs)}")
    return "cost -> rung: steps beyond in the first hour and its second half: " + ", ".join(found)


@case("ratio: mean of 5")
def a_detector_frame_every_five() -> str:
    """Every fifth frame is 40 ms dearer: what counts is the mean."""
    light, heavy = alone(10, Client(video=ms(24, detect=40))), alone(10, Client(video=ms(36, detect=40)))
    assert light.rungs == []
    assert heavy.rungs in ([1, 2, 3, 4], [1, 2, 3, 4, 5])
    assert heavy.since(SETTLED_S).steps_per_hour == 0
    return f"mean 32 ms (single frames 64): 0 steps; mean 44 ms: rung {heavy.rung} and stays"


@case("ratio: mean of 5, runs")
def noise_alone() -> str:
    """30 ms frames with 0, 10, 20 and 30 % noise: no step."""
    for noise_pm in (0, 100, 200, 300):
        seen = alone(10, Client(video=ms(30)), noise_pm=noise_pm)
        assert seen.rungs == []
    return "0 steps at 0, 10, 20, 30 % noise"


@case("frame interval of the camera")
def a_slow_camera() -> str:
    """12 fps: 58 ms frames are in budget, and nothing is late; 66 ms are an overload, said once."""
    calm, over = alone(15, Client(camera_fps=12, video=ms(58))), alone(15, Client(camera_fps=12, video=ms(66)))
    assert calm.rungs == []
    assert not {rule for rule in calm.rules if rule.startswith("sync")}
    assert over.rungs == list(range(1, BOTTOM + 1))
    assert over.rules["video.overload"] == 1
    return "58 ms: 0 steps, 0 late; 66 ms: bottom rung, 1 overload fact in 15 min"


@case("thinning, frame interval")
def a_client_that_does_not_obey() -> str:
    """30 fps are sent whatever is ordered: the edge thins, and the ladder acts on what is left."""
    light, heavy = (alone(10, Client(camera_fps=30, obeys=False, video=ms(cost))) for cost in (10, 60))
    assert light.rungs == []
    assert abs(light.outcomes["swapped"] - 600 * 20) < 20
    assert heavy.rung == BOTTOM
    assert heavy.since(SETTLED_S).steps_per_hour == 0
    return f"20.0 fps of 30 worked on at rung 0; 60 ms: rung {heavy.rung} and stays"


@case("soft skip, given up")
def a_120_ms_video_pipeline() -> str:
    """Video that comes out 120 ms late whatever is done: soft skip gives up after 200 frames, no step down."""
    seen = alone(30, Client(video=ms(10, behind=120), voice=CHEAP_VOICE))
    assert seen.rungs == []
    skips = seen.rules["sync.skip"]
    assert seen.rules["sync.no_gain"] in (skips, skips - 1)
    assert "sync.caught_up" not in seen.rules
    left_out_pm = (
        seen.outcomes[DropReason.SOFT_SKIP]
        * 1000
        // sum(seen.outcomes[name] for name in ("swapped", DropReason.SOFT_SKIP))
    )
    assert left_out_pm <= 40
    spans = [off - on for on, off in zip(seen.at_s("sync.skip"), seen.at_s("sync.no_gain"), strict=False)]
    assert max(spans) <= 11
    return (
        f"{skips} trials in 30 min, each at most {max(spans)} s; {left_out_pm / 10:.1f} % of frames left out; 0 steps"
    )


@case("drop floor, grace, sleep")
def the_video_worker_dies() -> str:
    """Three deaths, 4 s each: the floor rises while sound goes on, the backlog is dropped, and no rung is lost."""
    deaths = (300, 600, 900)
    seen = alone(20, Client(video=ms(25)), deaths_s=deaths)
    assert seen.rungs == []
    floors = len(seen.at_s("sync.drop"))
    assert {rule for rule in seen.rules if rule.startswith(("sync", "video"))} == {"sync.drop"}
    assert all(any(death <= s < death + 10 for death in deaths) for s in seen.at_s("sync.drop"))
    lost = sum(seen.outcomes[reason] for reason in (DropReason.STALE, DropReason.LATE, DropReason.SUPERSEDED))
    assert lost <= 3 * 20 * 5
    return f"3 deaths: 0 steps, {floors} floors, {lost} frames dropped (4 s of video are 80)"


@case("several sessions, one worker")
def sessions_share_a_worker() -> str:
    """Four sessions on one engine: all step alike, and nobody gets much less than the others."""
    found = []
    for cost, rungs in ((9, {0}), (15, {4, 5}), (30, {6, 7})):
        client = Client(video=ms(3, area=cost - 3), voice=CHEAP_VOICE)
        seen = run(Scenario(minutes=12, clients=(client,) * 4))
        assert {one.rung for one in seen} <= rungs, (cost, [one.rungs for one in seen])
        frames = [one.outcomes["swapped"] for one in seen]
        assert min(frames) * 100 >= 90 * max(frames), (cost, frames)
        assert min(frames) >= 12 * 60 * 14
        steps = [len(one.since(360).rungs) for one in seen]
        assert max(steps) <= 4, (cost, steps)
        share = min(frames) * 100 // max(frames)
        found.append(f"{cost} ms: rungs {sorted({one.rung for one in seen})}, least/most {share} %, steps {steps}")
    return "; ".join(found) + " (second 6 min)"


@case("several sessions, voice")
def sessions_share_a_voice() -> str:
    """Four voices on an engine that is full at 192 ms: sizes differ, steps become rare, nobody fails."""
    client = Client(camera_fps=1, voice=VoiceCost(20_000, 150_000))
    seen = run(Scenario(minutes=60, clients=(client,) * 4))
    first, later = ([len(one.chunks) for one in seen], [len(one.since(2400).chunks) * 3 for one in seen])
    assert max(later) <= 12, (first, later)
    assert all("audio.fail" not in one.rules for one in seen)
    sound = [one.outcomes["converted"] for one in seen]
    stale_pm = max(one.outcomes[DropReason.STALE] * 1000 // one.outcomes["converted"] for one in seen)
    assert stale_pm <= 5
    steps = f"chunk steps {first} in 60 min, {later} an hour in the last 20"
    return f"{steps}; 0 fails, at most {stale_pm} per mille stale; {min(sound)} to {max(sound)} chunks"


@case("relapse")
def contention_every_minute() -> str:
    """Everything takes four times as long for 5 s of every minute: the ladder stays down; afterwards it comes back."""
    seen = alone(60, Client(voice=CHEAP_VOICE), slow=[Slow(4000, 60 * n, 5) for n in range(1, 41)])
    during = [at // 1_000_000 for at, _ in seen.between(20 * 60, 40 * 60)]
    rungs = [decision for _, decision in seen.between(20 * 60, 40 * 60) if decision.rule.startswith("video")]
    assert rungs == [], during
    back_s = seen.first_s(rung=0, after_s=41 * 60)
    assert back_s is not None
    assert back_s - 2405 <= 900
    early = len([decision for _, decision in seen.between(0, 20 * 60) if decision.rule.startswith("video")])
    return f"{early} steps in the first 20 min, 0 in the next 20; rung 0 again {back_s - 2405} s after the last of it"


@case("down and up")
def bursts() -> str:
    """Three times the load for a minute of every ten: down within seconds, and back within two minutes."""
    client = Client(video=ms(area=15), voice=CHEAP_VOICE)
    seen = alone(40, client, slow=[Slow(3000, 300, 60, 600)])
    downs, ups = [], []
    for start in (300, 900, 1500, 2100):
        lowest = max(seen.rung_at(s) for s in range(start, start + 62))
        down_s, up_s = seen.first_s(rung=lowest, after_s=start), seen.first_s(rung=0, after_s=start + 60)
        assert down_s is not None
        assert up_s is not None
        assert seen.between(up_s + 1, start + 600) == [], "calm between bursts"
        downs.append(down_s - start)
        ups.append(up_s - start - 60)
    assert max(downs) <= 25
    assert max(ups) <= 150
    moves = seen.rungs
    assert all(abs(a - b) == 1 for a, b in zip([0, *moves], moves, strict=False))
    return f"rung {max(moves)} after {max(downs)} s at most; rung 0 again {max(ups)} s after the burst at most"


@case("shrink")
def a_fast_machine() -> str:
    """Walk from 192 down to 96 ms with a voice that takes a sixth of real time, and stay there."""
    seen = alone(20, Client(voice=VoiceCost(10_000, 100_000)))
    assert seen.chunks == [160, 128, 96]
    (*_, reached_s) = seen.at_s("audio.shrink")
    assert reached_s <= 70
    return f"96 ms after {reached_s} s; 0 steps in the rest of 20 min"


@case("grow, shrink")
def steady_voices() -> str:
    """Find the chunk of a voice of any cost within 5 min, and stay there."""
    found = []
    for fixed, per_s, chunk_ms in (
        (10, 50, 96),
        (40, 200, 96),
        (60, 200, 160),
        (80, 200, 192),
        (60, 400, 192),
        (20, 660, 256),
        (100, 400, 320),
    ):
        seen = alone(10, Client(voice=VoiceCost(fixed * 1000, per_s * 1000)))
        assert seen.since(SETTLED_S).steps_per_hour == 0
        assert seen.chunk_ms == chunk_ms, (fixed, per_s, seen.chunks)
        assert len(seen.chunks) <= 3
        found.append(f"{fixed} ms + {per_s} ms/s -> {chunk_ms}")
    return ", ".join(found)


@case("gated chunks")
def silence_between_speech() -> str:
    """4 s of speech, 11 s of silence, a cost between the bounds: silent chunks are almost free and change nothing."""
    seen = alone(60, Client(speech=Speech(4, 11), voice=VoiceCost(20_000, 500_000)))
    assert seen.chunks == []
    return f"0 chunk steps in 60 min ({seen.outcomes['gated']} silent, {seen.outcomes['converted']} converted)"


@case("voice failed, restored")
def a_slow_voice() -> str:
    """Fail on the top rung with a voice at 0.9 of real time; try it after 10, 20, 40, 80, then every 160 s."""
    seen = alone(30, Client(camera_fps=1, voice=VoiceCost(0, 900_000)))
    assert seen.chunks == [256, 320]
    fails = [decision.retry_ms // 1000 for _, decision in seen.decided if isinstance(decision, VoiceFailed)]
    assert fails[:5] == [10, 20, 40, 80, 160]
    assert set(fails[4:]) == {160}
    order = [rule for _, d in seen.decided if (rule := d.rule) in ("audio.fail", "audio.restore")]
    assert order == ["audio.fail", "audio.restore"] * (len(order) // 2) + ["audio.fail"] * (len(order) % 2)
    sound = seen.outcomes["converted"] * 100 // (seen.outcomes["converted"] + seen.outcomes["silenced"])
    return (
        f"first fail after {seen.at_s('audio.fail')[0]} s; retries after {fails[:6]} s; {sound} % of chunks converted"
    )


@case("voice restored, shrink")
def a_voice_that_was_slow_for_a_while() -> str:
    """Three times the cost for 5 min: it fails, comes back for good, and walks down again."""
    client = Client(camera_fps=1, voice=VoiceCost(20_000, 300_000))
    seen = alone(30, client, slow=[Slow(3000, 600, 300)])
    assert seen.chunk_ms == 96
    last_fail, last_restore = seen.at_s("audio.fail")[-1], seen.at_s("audio.restore")[-1]
    assert 600 < last_fail < last_restore
    assert last_restore - 900 <= 170
    back_s = seen.at_s("audio.shrink")[-1] - last_restore
    return f"converted again {last_restore - 900} s after the load, 96 ms {back_s} s after that"


@case("overload")
def over_budget_at_the_bottom() -> str:
    """100 ms frames: the bottom rung within a minute, one fact for operators, and the newest frames still go out."""
    seen = alone(15, Client(video=ms(100)))
    assert seen.rung == BOTTOM
    assert seen.rules["video.overload"] == 1
    bottom_s = seen.first_s(rung=BOTTOM, after_s=0)
    assert bottom_s is not None
    assert bottom_s <= 60
    fps = seen.outcomes["swapped"] / (15 * 60)
    assert fps >= 9
    return f"bottom after {bottom_s} s, overload {seen.at_s('video.overload')[0]} s; {fps:.1f} fps go out"


@case("fold = live")
def what_was_recorded_folds_to_the_same() -> str:
    """Fold what a simulated policy saw again, from bytes: the same decisions. Simulate again: the same bytes."""
    scenario = Scenario(minutes=10, clients=(Client(video=ms(area=60)),), slow=[Slow(3000, 120, 60)], deaths_s=(400,))
    (first,), (second,) = run(scenario), run(scenario)
    assert first.session.recorded == second.session.recorded
    driver = Driver()
    again = [found for entry_id, data in first.session.recorded for _, found in driver.fold(entry_id, data)]
    assert again == [decision for _, decision in first.decided]
    assert driver.state == first.session.driver.state
    return f"{len(first.session.recorded)} events, {len(again)} decisions: equal"
