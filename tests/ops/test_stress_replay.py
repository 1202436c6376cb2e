"""A real stress session, recorded once, folds to the same decisions byte for byte, and tells the whole story.

`tests/data/stress.mcap` was made by `mirage demo --stress` and `mirage export --events-only`. After a change of the
rules it is recorded anew in the same way; it is never edited.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.archive.model import EVENT_STREAMS
from ops.archive.reader import open_archive
from ops.demo.course import course, lacks
from ops.demo.stress import LOAD
from ops.replay.story import Story
from schemas.events import EVENT, WorkerTook, metric_events

STRESS = Path(__file__).parents[1] / "data" / "stress.mcap"
EVENTS, DECISIONS = 4488, 22


def test_it_replays_byte_for_byte() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    argv = [sys.executable, "-m", "ops.cli", "replay", str(STRESS), "--policy", "--json"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["first_difference"] is None
    assert (verdict["events"], verdict["decisions"], verdict["same"]) == (EVENTS, DECISIONS, DECISIONS)
    assert verdict["problems"] == []
    assert verdict["complete"]


def test_without_media_there_is_nothing_to_convert_again_and_no_server_is_started_for_it(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    environ["MIRAGE_DATA_DIR"] = str(tmp_path)
    argv = [sys.executable, "-m", "ops.cli", "replay", str(STRESS), "--media"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "nothing to compare" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Return what happened when in the recorded session."""
    return course(LOAD, Story.of(open_archive(STRESS)))


def test_everything_that_the_load_is_to_show_is_in_it(found: dict[str, Any]) -> None:
    assert lacks(found) == []


def test_every_family_of_decisions_is_in_it(found: dict[str, Any]) -> None:
    assert [step["rung"] for step in found["rungs"]] == [1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0]
    assert [step["chunk_ms"] for step in found["chunks"]] == [256, 192, 160, 128, 96]
    assert found["recovery_s"] == 106.0
    assert len(found["soft_skips"]) == 1
    assert found["soft_skips"][0]["of"] == 4
    assert found["soft_skips"][0]["to_s"] > found["soft_skips"][0]["from_s"]
    assert {"late", "superseded", "soft_skip"} <= set(found["drops"])
    assert {"sync.drop", "sync.skip", "video.up", "audio.grow", "audio.shrink"} <= set(found["decisions"])


def test_it_holds_no_media_and_names_no_machine_and_nobody() -> None:
    session = open_archive(STRESS)
    assert session.streams == EVENT_STREAMS
    assert session.record is not None
    assert session.record.owner == "local"
    events = [metric_events.decode(entry.fields[EVENT]) for entry in session.entries("metrics")]
    workers = [event.worker for event in events if isinstance(event, WorkerTook)]
    assert workers
    assert all(re.fullmatch(r"demo-\d+-[0-9a-f]{8}", worker) for worker in workers)
    data = STRESS.read_bytes()
    assert not re.search(rb"/(root|home|tmp|Users|work|var)/", data)
