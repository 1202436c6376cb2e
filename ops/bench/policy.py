"""`mirage bench policy`: how fast a session is folded and told, and an archive written. Medians of several runs."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from ops.archive.speed import archive_mb_per_s
from ops.bench.synthetic import SyntheticSession
from ops.replay.run import replay_session
from policy.driver import Driver
from policy.reducer import PolicyState, step
from schemas.events import EVENT, metric_events

_HOUR_S, _REPORT_S = 3600, 600


def measure(runs: int, progress: Callable[[int], None], *, archive_mb: int = 256) -> dict[str, float]:
    """Return the published figures, from a synthetic hour at 20 fps and a report of ten minutes.

    `hour_s`: decoding and folding the hour. `events`: how many events it has.
    """
    hour = SyntheticSession(_HOUR_S)
    data = [(entry.id, entry.fields[EVENT]) for entry in hour.metrics]
    events = [(entry_id, metric_events.decode(raw)) for entry_id, raw in data]

    def fold_only() -> None:
        state = PolicyState()
        for entry_id, event in events:
            state, _ = step(state, entry_id, event)

    def decode_and_fold() -> None:
        driver = Driver()
        for entry_id, raw in data:
            driver.fold(entry_id, raw)

    short = SyntheticSession(_REPORT_S)
    short.policy  # noqa: B018 - made before the clock runs

    def report() -> None:
        replay_session(short, tell=True).page()

    fold_s, both_s, report_s = (_timed(work, runs, progress) for work in (fold_only, decode_and_fold, report))
    with tempfile.TemporaryDirectory(prefix="mirage-bench-") as folder:
        written = []
        for _ in range(runs):
            written.append(archive_mb_per_s(Path(folder), megabytes=archive_mb))
            progress(1)
    return {
        "fold_events_per_s": round(len(events) / fold_s),
        "decode_and_fold_events_per_s": round(len(data) / both_s),
        "report_s": round(report_s, 3),
        "archive_mb_per_s": round(median(written), 1),
        "hour_s": round(both_s, 3),
        "events": len(events),
    }


def _timed(work: Callable[[], None], runs: int, progress: Callable[[int], None]) -> float:
    spent = []
    for _ in range(runs):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
        progress(1)
    return median(spent)
