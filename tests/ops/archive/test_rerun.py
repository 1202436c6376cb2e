"""`mirage export --rerun`: a session becomes rows on one time axis, and those a recording that Rerun itself reads."""

import io
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ops.archive.rerun_rows import session_rows, shots, takes
from ops.bench.synthetic import START_MS, SyntheticSession
from ops.cli import cli
from schemas.bus.base import Entry
from schemas.decisions import SetChunk, SetVideo, SoftSkip, VoiceFailed, VoiceRestored, decision_id
from schemas.errors import Conflict, Misconfigured
from schemas.events import EVENT
from schemas.facts import SettingsChanged
from schemas.ids import EntryId
from schemas.media import MediaHeader, pack
from schemas.message import encode
from tests.ops.archive.sessions import MadeUp
from tests.ops.replay.stage import archived

MADE = SyntheticSession(75)
CAUSE = EntryId(START_MS + 5_000, 0)


def decided() -> list[Entry]:
    cause = str(CAUSE)
    decisions = [
        SetVideo(cause=cause, rule="r", rung=1, quality=70, fps=15, size=384),
        SetChunk(cause=cause, rule="r", chunk_ms=288),
        SoftSkip(cause=cause, rule="r", of=4),
        SoftSkip(cause=cause, rule="r", of=0),
        VoiceFailed(cause=cause, rule="r", retry_ms=10_000),
        VoiceRestored(cause=cause, rule="r"),
    ]
    return [Entry(decision_id(CAUSE, n), {EVENT: encode(decision)}) for n, decision in enumerate(decisions)]


def sound(chunks: Sequence[tuple[int, int, int]]) -> list[Entry]:
    """Return chunks of (ms after the start, media time in us, level), 96 ms each."""
    return [
        Entry(
            EntryId(START_MS + at_ms, 0),
            pack(MediaHeader(pts_us=pts_us, sent_us=0), np.full(1536, level, "<i2").tobytes()),
        )
        for at_ms, pts_us, level in chunks
    ]


def pictures(count: int) -> list[Entry]:
    header = MediaHeader(pts_us=0, sent_us=0)
    return [Entry(EntryId(START_MS + 50 * n, 0), pack(header, bytes([255, n]))) for n in range(count)]


def session() -> MadeUp:
    changed = Entry(EntryId(START_MS + 7_000, 0), {EVENT: encode(SettingsChanged(voice="other"))})
    return MadeUp(
        {
            "metrics": MADE.metrics,
            "policy": decided(),
            "control": [changed],
            "video:in": pictures(100),
            "video:out": [entry for entry in pictures(100) if entry.id.ms % 100],
            "audio:in": sound([(0, 0, 5), (96, 96_000, 6)]),
            "audio:out": sound([(0, -32_000, 7), (96, 64_000, 8)]),
        },
        problems=("video:in: 3 entries are missing",),
    )


def samples(wav: bytes) -> list[int]:
    with wave.open(io.BytesIO(wav)) as reader:
        assert (reader.getframerate(), reader.getnchannels()) == (16_000, 1)
        return [int(level) for level in np.frombuffer(reader.readframes(1 << 20), "<i2")]


def test_what_was_in_force_is_told_from_when_on() -> None:
    rows = session_rows(session())
    assert rows.states["policy/video"][1] == (5_000, "rung 1: 384 px, 15 fps, quality 70")
    assert rows.states["policy/sound"] == [(0, "192 ms"), (5_000, "288 ms")]
    assert rows.states["policy/skip"] == [(0, "every frame"), (5_000, "all but one of 4"), (5_000, "every frame")]
    assert rows.states["policy/voice"] == [(0, "converted"), (5_000, "failed"), (5_000, "converted")]
    assert rows.series["policy/rung"] == [(0, 0), (5_000, 1)]
    assert rows.series["policy/chunk_ms"] == [(0, 192), (5_000, 288)]
    assert {"owners/video", "owners/voice"} <= set(rows.states)


def test_every_decision_is_in_the_log_with_its_cause_and_what_failed_stands_out() -> None:
    log = session_rows(session()).logs["policy/log"]
    assert len(log) == 6
    assert all(str(CAUSE) in line.text for line in log)
    assert [line.level for line in log] == ["INFO", "INFO", "INFO", "INFO", "ERROR", "INFO"]


def test_the_log_of_facts_holds_what_happened_and_what_the_recording_lacks() -> None:
    facts = session_rows(session()).logs["facts/log"]
    assert [line.at_ms for line in facts] == sorted(line.at_ms for line in facts)
    text = "\n".join(line.text for line in facts)
    for words in ("3 entries are missing", "session_started", "worker_took", "session_ended", "voice other"):
        assert words in text
    assert "video_processed" not in text


def test_plots_hold_every_outcome() -> None:
    rows = session_rows(session())
    tags = [entry.fields[EVENT] for entry in MADE.metrics]
    assert len(rows.series["load/video"]) == sum(b"video_processed" in tag for tag in tags) > 100
    dropped = [points for name, points in rows.series.items() if name.startswith("drops/frame")]
    assert sum(len(points) for points in dropped) == sum(b"video_dropped" in tag for tag in tags) > 0
    assert rows.series["latency/late_ms"]


def test_a_picture_and_what_became_of_it_have_one_time() -> None:
    made = session()
    before = {shot.at_ms: shot.jpeg for shot in shots(made, "video:in", START_MS)}
    after = {shot.at_ms: shot.jpeg for shot in shots(made, "video:out", START_MS)}
    assert len(before) == 100
    assert after == {at: jpeg for at, jpeg in before.items() if at % 100}


def test_sound_that_came_out_lies_where_it_was_said() -> None:
    """The engine's lookahead put it behind its input; in media time it is not."""
    (before,) = takes(session(), "audio:in", START_MS)
    (after,) = takes(session(), "audio:out", START_MS)
    assert (before.at_ms, after.at_ms) == (0, -32)
    assert samples(before.wav) == [5] * 1536 + [6] * 1536
    assert samples(after.wav) == [7] * 1536 + [8] * 1536


def test_a_chunk_that_lacks_is_silence_and_a_jump_begins_a_new_piece() -> None:
    made = MadeUp({"audio:in": sound([(0, 0, 1), (192, 192_000, 2), (9_000, 5_000_000, 3), (9_096, 500_000, 4)])})
    first, second, third = takes(made, "audio:in", START_MS)
    assert samples(first.wav) == [1] * 1536 + [0] * 1536 + [2] * 1536
    assert (second.at_ms, samples(second.wav)) == (9_000, [3] * 1536)
    assert (third.at_ms, samples(third.wav)) == (9_096, [4] * 1536)


def test_chunks_that_overlap_are_not_heard_twice() -> None:
    """Clients' clocks wobble."""
    made = MadeUp({"audio:in": sound([(0, 0, 1), (96, 95_000, 2)])})
    (piece,) = takes(made, "audio:in", START_MS)
    assert samples(piece.wav) == [1] * 1536 + [2] * (1536 - 16)


def test_without_the_package_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ops.archive.rerun_file.find_spec", lambda _: None)
    done = CliRunner().invoke(cli, ["export", "any", "--rerun", str(tmp_path / "out.rrd")])
    assert isinstance(done.exception, Misconfigured)
    assert "pip install -e '.[rerun]'" in str(done.exception)


def test_one_file_is_named() -> None:
    assert CliRunner().invoke(cli, ["export", "any"]).exit_code == 2
    assert CliRunner().invoke(cli, ["export", "any", "--rerun", "a.rrd", "--out", "b.mcap"]).exit_code == 2


@pytest.mark.rerun
def test_rerun_reads_what_was_written(tmp_path: Path) -> None:
    """Every row, on the session's time, with a blueprint for it; nobody else may read the file."""
    from rerun.chunk import RrdReader

    archived(tmp_path / "in.mcap", session())
    out = tmp_path / "out.rrd"
    done = CliRunner().invoke(cli, ["export", str(tmp_path / "in.mcap"), "--rerun", str(out), "--json"])
    assert done.exit_code == 0, done.output
    reader = RrdReader(out)
    rows: dict[str, int] = {}
    for chunk in reader.stream():
        if not chunk.is_static:
            assert {"session", "wall"} <= set(chunk.timeline_names)
            rows[chunk.entity_path] = rows.get(chunk.entity_path, 0) + chunk.num_rows
    assert rows["/video/before"] == 100
    assert rows["/video/after"] == 50
    assert rows["/audio/before"] == rows["/audio/after"] == 1
    assert rows["/policy/log"] == 6
    assert rows["/policy/voice"] == 3
    assert {"/policy/rung", "/latency/late_ms", "/load/video", "/facts/log", "/owners/video"} <= set(rows)
    assert [store.recording_id for store in reader.recordings()] == ["made-up"]
    assert [store.application_id for store in reader.blueprints()] == ["mirage"]
    assert out.stat().st_mode & 0o777 == 0o600
    again = CliRunner().invoke(cli, ["export", str(tmp_path / "in.mcap"), "--rerun", str(out)])
    assert isinstance(again.exception, Conflict)
    assert set(tmp_path.iterdir()) == {tmp_path / "in.mcap", out}, "nothing unfinished is left"
