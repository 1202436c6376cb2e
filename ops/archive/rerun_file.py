"""Writes a session as a Rerun recording with a blueprint: `mirage export SESSION --rerun OUT.rrd`.

Before and after side by side, the policy's lanes with its log, lateness and load as plots, the sound of both. Needs
`rerun-sdk`, which is an extra: it brings Arrow with it, and only this command wants it.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from ops.archive.model import RecordedSession
from ops.archive.rerun_rows import SOUND, VIDEO, SessionRows, Shot, session_rows, shots, takes
from schemas.errors import Conflict, Misconfigured

APPLICATION = "mirage"
TIMELINE, WALL = "session", "wall"
_BATCH = 64


@dataclass(frozen=True, slots=True)
class RerunExport:
    """What was written."""

    rows: dict[str, int]
    """Rows of each entity."""
    size: int
    """Bytes of the file."""


def require_rerun() -> Any:
    """Return the `rerun` module; raises `Misconfigured` that says how to get it."""
    if find_spec("rerun") is None:
        raise Misconfigured("--rerun needs the package rerun-sdk, which is not here: pip install -e '.[rerun]'")
    return import_module("rerun")


def export_rerun(session: RecordedSession, out: Path) -> RerunExport:
    """Write `session` to the new file `out`, mode 0600: it shows the raw face. `out` appears when it is whole.

    Raises `Conflict` when it is there already, `Misconfigured` when it cannot be written or Rerun is not installed.
    """
    rr = require_rerun()
    if out.exists():
        raise Conflict(f"{out} is there already; name another file")
    unfinished = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        try:
            os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            counts = _RerunWriter(rr, session, unfinished).write()
            os.link(unfinished, out)  # unlike a rename, it replaces nothing
        finally:
            unfinished.unlink(missing_ok=True)
    except FileExistsError:
        raise Conflict(f"{out} is there already; name another file") from None
    except OSError as error:
        raise Misconfigured(f"{out} cannot be written: {error.strerror}") from None
    return RerunExport(counts, out.stat().st_size)


class _RerunWriter:
    """One recording. Every call that Rerun would only warn about raises (`strict`)."""

    def __init__(self, rr: Any, session: RecordedSession, path: Path) -> None:
        self._rr, self._session = rr, session
        self._rows = session_rows(session)
        self._counts: dict[str, int] = {}
        self._stream = rr.RecordingStream(APPLICATION, recording_id=self._rows.sid)
        self._stream.save(path, default_blueprint=blueprint(self._rows))

    def write(self) -> dict[str, int]:
        """Write everything; returns the rows of each entity."""
        try:
            self._write_events()
            self._write_media()
        finally:
            self._stream.disconnect()  # flushes, and writes the footer
        return self._counts

    def _write_events(self) -> None:
        rr = self._rr
        self._stream.send_recording_name(f"session {self._rows.sid}")
        for path, points in self._rows.series.items():
            name = path.rpartition("/")[2].replace("_", " ")
            self._stream.log(path, rr.SeriesLines(names=name), static=True, strict=True)
            columns = rr.Scalars.columns(scalars=[value for _, value in points])
            self._send(path, [at for at, _ in points], columns)
        for path, states in self._rows.states.items():
            self._send(path, [at for at, _ in states], rr.StateChange.columns(state=[what for _, what in states]))
        for path, lines in self._rows.logs.items():
            if lines:
                text, level = [line.text for line in lines], [line.level for line in lines]
                self._send(path, [line.at_ms for line in lines], rr.TextLog.columns(text=text, level=level))

    def _write_media(self) -> None:
        for stream, path in VIDEO.items():
            for batch in _batches(shots(self._session, stream, self._rows.start_ms)):
                self._send_shots(path, batch)
        for stream, path in SOUND.items():
            for take in takes(self._session, stream, self._rows.start_ms):
                columns = self._rr.AssetAudio.columns(blob=[take.wav], media_type=["audio/wav"])
                self._send(path, [take.at_ms], columns)

    def _send_shots(self, path: str, batch: Sequence[Shot]) -> None:
        columns = self._rr.EncodedImage.columns(
            blob=[shot.jpeg for shot in batch], media_type=["image/jpeg"] * len(batch)
        )
        self._send(path, [shot.at_ms for shot in batch], columns)

    def _send(self, path: str, at_ms: Sequence[int], columns: Any) -> None:
        indexes = [
            self._rr.TimeColumn(TIMELINE, duration=[at / 1000 for at in at_ms]),
            self._rr.TimeColumn(WALL, timestamp=[(at + self._rows.start_ms) / 1000 for at in at_ms]),
        ]
        self._stream.send_columns(path, indexes, columns, strict=True)
        self._counts[path] = self._counts.get(path, 0) + len(at_ms)


def _batches(found: Iterator[Shot]) -> Iterator[list[Shot]]:
    while batch := list(islice(found, _BATCH)):
        yield batch


def blueprint(rows: SessionRows) -> Any:
    """Return the layout: pictures and sound above, lanes and logs in the middle, plots below."""
    rrb = import_module("rerun.blueprint")
    plots = [("latency", "Lateness and delay, ms"), ("load", "Share of the time used"), ("drops", "Drops")]
    there = {path.partition("/")[0] for path in rows.series}
    return rrb.Blueprint(
        rrb.Vertical(
            rrb.Horizontal(
                rrb.Spatial2DView(origin="video/before", name="Before"),
                rrb.Spatial2DView(origin="video/after", name="After"),
                rrb.Vertical(
                    rrb.AudioView(origin="audio/before", name="Sound before", playback=rrb.AudioPlayback(volume=0.0)),
                    rrb.AudioView(origin="audio/after", name="Sound after"),
                ),
                column_shares=[2, 2, 1],
            ),
            rrb.Horizontal(
                rrb.StateTimelineView(origin="/", contents=["policy/**", "owners/**"], name="Policy"),
                rrb.Tabs(
                    rrb.TextLogView(origin="policy/log", name="Decisions"),
                    rrb.TextLogView(origin="facts/log", name="Facts"),
                ),
                column_shares=[3, 2],
            ),
            rrb.Horizontal(
                *(rrb.TimeSeriesView(origin=origin, name=name) for origin, name in plots if origin in there),
                rrb.TimeSeriesView(origin="policy", contents=["policy/rung", "policy/chunk_ms"], name="Rung and chunk"),
            ),
            row_shares=[3, 2, 2],
        ),
        rrb.TimePanel(timeline=TIMELINE),
        auto_views=False,
    )
