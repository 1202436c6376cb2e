"""`mirage bench policy` prints the published figures; how large they are is not a test's business."""

import json
import os
import subprocess
import sys

from ops.bench.synthetic import SyntheticSession
from ops.replay.run import replay_session
from schemas.decisions import policy_decisions
from schemas.events import EVENT

PUBLISHED = {"fold_events_per_s", "decode_and_fold_events_per_s", "report_s", "archive_mb_per_s"}


def test_the_published_figures_are_there() -> None:
    command = [sys.executable, "-m", "ops.cli", "bench", "policy", "--runs", "1", "--json"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures.keys() >= PUBLISHED
    assert all(figures[name] > 0 for name in PUBLISHED)
    assert figures["events"] > 100_000


def test_the_synthetic_session_is_reproducible_and_makes_policy_work() -> None:
    """What is measured decides: sound, video and sync rules all fire, and it replays as the same."""
    session = SyntheticSession(300)
    assert session.metrics == SyntheticSession(300).metrics
    rules = {policy_decisions.decode(entry.fields[EVENT]).rule.split(".")[0] for entry in session.policy}
    assert rules == {"audio", "sync", "video"}
    assert replay_session(session).verdict.exit_code == 0
