"""The stress demo: its load offline on machines of several speeds, its parts, and one real run that is cut short."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ops.archive.reader import open_archive
from ops.bench.synthetic import SyntheticSession
from ops.demo.course import course, lacks
from ops.demo.footage import FPS, FRAME_US, Clip
from ops.demo.live import Performance, Played
from ops.demo.player import Heard, Seen, play
from ops.demo.publish import Jam, Recording, Script, schedule
from ops.demo.stress import LEAD_US, LOAD
from ops.demo.stress_report import told
from ops.demo.stress_run import ARCHIVE, FILES, REPORT, judged, skew_over_time
from ops.replay.compare import Written
from ops.replay.media.plan import VIDEO, Step
from ops.replay.media.verdict import MediaVerdict, Tally
from ops.replay.run import replay_session
from ops.replay.story import Story
from policy.driver import Driver
from schemas.bus.base import Entry
from schemas.events import EVENT, WorkerTook, metric_events
from schemas.ids import EntryId
from schemas.message import encode
from schemas.names import Kind
from tests.policy.simulator.load import VideoCost, VoiceCost
from tests.policy.simulator.machine import Engine, Timeline
from tests.policy.simulator.session import SECOND_US, Client, Session
from workers.faults import FaultPlan, fault_plan

# --- the load, offline


@dataclass(frozen=True, kw_only=True)
class SlowedVideo(VideoCost):
    """What a frame costs, off by `spread_pm` either way, and what the load adds."""

    timeline: Timeline
    plan: FaultPlan
    random: Random
    spread_pm: int = 0

    def of(self, n: int, size: int) -> int:
        own_us = super().of(n, size) * (1000 + self.random.randint(-self.spread_pm, self.spread_pm)) // 1000
        return own_us + self.plan.delay_us("swap", self.timeline.now_us, size)


@dataclass(frozen=True, kw_only=True)
class SlowedVoice(VoiceCost):
    """What a chunk costs, and what the load adds."""

    timeline: Timeline
    plan: FaultPlan

    def of(self, duration_us: int) -> int:
        return super().of(duration_us) + self.plan.delay_us("convert", self.timeline.now_us)


class Jammed(Session):
    """A session whose frames get through late for a while."""

    _last_us = 0

    def _frame(self, pts_us: int) -> None:
        jam = LOAD.jam
        held = jam.from_us + LEAD_US <= pts_us < jam.to_us + LEAD_US
        self._last_us = max(pts_us + (jam.late_us if held else 0), self._last_us)
        self._timeline.after(max(0, self._last_us - pts_us), super()._frame, pts_us)


def stressed(*, engine_us: int, spread_pm: int) -> Story:
    """Simulate the load on an engine of this speed, for picture and sound alike, and fold what came of it."""
    timeline = Timeline()
    client = Client(
        video=SlowedVideo(
            fixed_us=engine_us,
            detect_us=engine_us // 2,
            timeline=timeline,
            plan=fault_plan(LOAD.fault, Kind.VIDEO),
            random=Random(engine_us),
            spread_pm=spread_pm,
        ),
        voice=SlowedVoice(fixed_us=engine_us, per_s_us=0, timeline=timeline, plan=fault_plan(LOAD.fault, Kind.VOICE)),
    )
    video, voice = (Engine(timeline, seed=seed, noise_pm=0, slow=()) for seed in (1, 2))
    session = Jammed(timeline, client, seed=3, video=video, voice=voice)
    session.begin()
    timeline.run(round(LOAD.seconds) * SECOND_US)
    driver = Driver()
    decided = [found for entry_id, data in session.recorded for found in driver.fold(entry_id, data)]
    return Story(
        "simulated",
        [Entry(entry_id, {EVENT: data}) for entry_id, data in session.recorded],
        [Written(decision_id, encode(decision)) for decision_id, decision in decided],
        [],
    )


@pytest.mark.parametrize("spread_pm", [0, 400])
@pytest.mark.parametrize("engine_ms", [4, 8, 14, 20])
def test_the_load_shows_everything_on_fast_and_slow_machines(engine_ms: int, spread_pm: int) -> None:
    """Ladder down to smaller pictures and back to the top, chunks longer and shorter, drops, a soft skip that ends."""
    found = course(LOAD, stressed(engine_us=engine_ms * 1000, spread_pm=spread_pm))
    assert lacks(found) == []
    assert found["lowest_rung"] == 6
    assert found["recovery_s"] is not None
    assert [step["rung"] for step in found["rungs"]] == [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]
    assert [step["chunk_ms"] for step in found["chunks"]] == [256, 192, 160, 128, 96]
    assert len(found["soft_skips"]) == 1
    assert [at_s for at_s, _ in told(found)] == sorted(at_s for at_s, _ in told(found))


def test_a_calm_session_lacks_all_of_it() -> None:
    story = Story("calm", [], [], [])
    assert len(lacks(course(LOAD, story))) == 10


# --- parts


def test_a_jam_holds_frames_up_and_keeps_their_order() -> None:
    jam = Jam(1_000_000, 2_000_000, 135_000)
    dues = list(schedule(4, jam))
    video = [due for due in dues if due.kind == "video"]
    assert [due.at_us for due in dues] == sorted(due.at_us for due in dues)
    assert [due.pts_us for due in video] == [number * FRAME_US for number in range(4 * FPS)]
    late_us = {due.pts_us: due.at_us - due.pts_us for due in video}
    assert {late_us[pts_us] for pts_us in range(1_000_000, 2_000_000, FRAME_US)} == {135_000}
    assert [late_us[2_000_000 + k * FRAME_US] for k in range(3)] == [85_000, 35_000, 0]
    assert late_us[950_000] == 0
    assert [due for due in dues if due.kind == "audio"] == [due for due in schedule(4) if due.kind == "audio"]


def test_skew_is_told_for_every_ten_seconds() -> None:
    """Pictures are in time for 10 s and 0.7 s late after that."""
    sound = [Heard((n + 1) * 192_000, n * 192_000, 192_000) for n in range(104)]
    frames = [Seen(n * FRAME_US + (30_000 if n < 200 else 700_000), n * FRAME_US) for n in range(400)]
    first, second = skew_over_time(play(sound, frames))
    assert (first["from_s"], second["from_s"]) == (0, 10)
    assert first["p50"] == pytest.approx(-FRAME_US / 2000, abs=10)
    assert second["p50"] == pytest.approx(-308 - FRAME_US / 2000, abs=FRAME_US / 1000)


def differing() -> Tally:
    """Return what is said of a frame that does not come out any more."""
    tally = Tally(VIDEO, exact=True, engine="e")
    tally.failed(Step(EntryId(5, 0), None, None, 1), 0, "an error")
    return tally


@pytest.mark.parametrize(
    ("media", "why"),
    [
        (MediaVerdict("s", [Tally(VIDEO, exact=True, engine="e")], [], 1, 1), None),
        (MediaVerdict("s", [], ["a gap"], 1, 1), "a gap"),
        (MediaVerdict("s", [differing()], [], 1, 1), "video input 5-0, an error"),
    ],
)
def test_media_that_do_not_come_out_again_are_a_failure(media: MediaVerdict, why: str | None) -> None:
    done = replay_session(SyntheticSession(2))
    recording = Recording("s")
    script = Script(Clip([]), np.zeros(0, np.float32), 0)
    performance = Performance(Played(recording, script, []), None, [])
    found = {"frames_out": 1, "outcomes": {"video": ["swapped"], "voice": []}, "viewer": {"identical": True}}
    found |= {"raw_frames_leaked": 0, "raw_sound_windows_leaked": 0, "stress": course(LOAD, done.story)}
    wrong = judged(found, performance, done, media, whole=False).problems
    assert wrong[1:] == ([] if why is None else [f"its media do not come out again: {why}"])


# --- a real run

SECONDS = 6


@pytest.fixture(scope="module")
def cut_short(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """Run the command as a user does, for six seconds: its folder, what it printed, and what it said."""
    out = tmp_path_factory.mktemp("stress") / "results"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    argv = [sys.executable, "-m", "ops.cli", "demo", "--stress", "--seconds", str(SECONDS), "--json", "--out", str(out)]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout), done.stderr


def test_a_run_leaves_its_archive_its_report_and_its_figures(cut_short: tuple[Path, dict[str, Any], str]) -> None:
    out, found, said = cut_short
    assert {path.name for path in out.iterdir()} == set(FILES)
    assert json.loads((out / "metrics.json").read_text("utf-8")) == found
    assert "Timeline" in (out / REPORT).read_text("utf-8")
    assert (out / REPORT).stat().st_mode & 0o077 == 0
    assert "too short to see: a soft skip that ended" in said
    assert found["raw_frames_leaked"] == found["raw_sound_windows_leaked"] == 0


def test_the_stall_leads_to_a_drop_floor_and_replays_the_same(cut_short: tuple[Path, dict[str, Any], str]) -> None:
    _, found, _ = cut_short
    stress = found["stress"]
    assert stress["drop_floors"]["count"] >= 1
    assert stress["drops"]["late"] >= 1
    assert stress["replay"]["first_difference"] is None
    assert stress["replay"]["problems"] == []
    assert stress["replay"]["decisions"] >= 1


def test_every_output_comes_out_again_to_the_byte_though_faults_slowed_it(
    cut_short: tuple[Path, dict[str, Any], str],
) -> None:
    out, found, _ = cut_short
    media, session = found["stress"]["media"], open_archive(out / ARCHIVE)
    outputs = sum(1 for stream in ("video:out", "audio:out") for _ in session.entries(stream))
    assert media["compared"] == media["equal"] == outputs > 20
    assert media["first_difference"] is None
    assert media["problems"] == []


def test_what_is_recorded_does_not_name_the_machine(cut_short: tuple[Path, dict[str, Any], str]) -> None:
    out, _, _ = cut_short
    events = [metric_events.decode(entry.fields[EVENT]) for entry in open_archive(out / ARCHIVE).entries("metrics")]
    workers = [event.worker for event in events if isinstance(event, WorkerTook)]
    assert len(workers) == 4
    assert all(worker.startswith("demo-") for worker in workers)


def test_times_of_what_happened_are_those_of_the_load(cut_short: tuple[Path, dict[str, Any], str]) -> None:
    """The stalled frame is that of 2 s; the floor follows before the engine has done with it."""
    _, found, _ = cut_short
    assert 2 < found["stress"]["drop_floors"]["first_s"] < 3


def test_the_schedule_of_a_jam_is_the_same_every_time() -> None:
    first, second = (list(schedule(20, LOAD.jam)) for _ in range(2))
    assert first == second
    assert all(later.at_us >= earlier.at_us for earlier, later in itertools.pairwise(first))
