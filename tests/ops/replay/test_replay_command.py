"""`mirage replay` as a user runs it: on live sessions, ended ones and files; what it says and how it exits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.archive.export import export_archive
from ops.archive.live import fetch_session
from ops.archive.model import EVENT_STREAMS
from ops.bench.synthetic import SyntheticSession
from schemas.bus.base import Entry, Planes
from schemas.events import EVENT, SessionStarted
from schemas.ids import EntryId
from schemas.message import encode
from tests.ops.replay.stage import Command, Told, archived, begin, finished, frames, policy_service, tampered


async def test_an_ended_session_replays_as_the_same(planes: Planes, mirage: Command) -> None:
    """Every decision of the live policy service comes out again, byte for byte."""
    sid = await begin(planes)
    async with policy_service(planes):
        await finished(planes, sid)
    code, told = mirage.json("replay", sid, "--policy")
    assert code == 0
    assert told["first_difference"] is None
    assert told["problems"] == []
    assert told["complete"]
    assert told["decisions"] == told["same"] > 0
    assert told["events"] == await planes.events.length(f"mirage:{{{sid}}}:metrics")


async def test_a_session_that_goes_on_is_compared_as_far_as_it_is_decided(planes: Planes, mirage: Command) -> None:
    """Without a policy service nothing is recorded: what folding decides is pending, and no difference."""
    sid = await begin(planes)
    code, told = mirage.json("replay", sid, "--policy")
    assert (code, told["first_difference"], told["complete"]) == (0, None, False)
    assert told["pending"] > 0
    assert "pending" in mirage("replay", sid).stdout
    async with policy_service(planes):  # the work of this session is not left to the next test
        await finished(planes, sid)


async def test_a_session_that_ended_without_its_decisions_is_different(planes: Planes, mirage: Command) -> None:
    """The end of the decisions is waited for, not for ever."""
    sid = await begin(planes)
    async with policy_service(planes):
        await finished(planes, sid)
    kept = await fetch_session(planes, sid)
    short = archived(mirage.folder / "short.mcap", kept, policy=list(kept.entries("policy"))[:-1])
    code, told = mirage.json("replay", str(short))
    assert (code, told["first_difference"]["kind"], told["first_difference"]["got"]) == (3, "missing", None)


async def test_a_session_whose_recording_goes_on_is_replayed_from_its_streams(planes: Planes, mirage: Command) -> None:
    """An unfinished archive knows less than the streams; once it is whole, it needs no server any more."""
    sid = await begin(planes)
    async with policy_service(planes):
        await finished(planes, sid)
    kept = await fetch_session(planes, sid)
    folder = mirage.folder / "data" / "archives"
    folder.mkdir(parents=True)
    path = archived(folder / f"{sid}.mcap", kept)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    events = len(list(kept.entries("metrics")))
    code, told = mirage.json("replay", sid)
    assert (code, told["problems"], told["events"]) == (0, [], events)
    path.write_bytes(whole)
    nobody = Command(("unix:///nowhere.sock", "unix:///nowhere.sock"), mirage.folder)
    code, told = nobody.json("replay", sid)
    assert (code, told["problems"], told["events"]) == (0, [], events)


async def test_a_session_whose_recording_has_only_begun_is_there(planes: Planes, mirage: Command) -> None:
    """Its archive holds nothing yet, or not even a head; its streams do."""
    sid = await begin(planes, seconds=5)
    folder = mirage.folder / "data" / "archives"
    folder.mkdir(parents=True)
    for head in (b"", b"\x89MCAP0\r\n"):
        (folder / f"{sid}.mcap").write_bytes(head)
        code, told = mirage.json("replay", sid)
        assert (code, told["problems"], told["events"] > 0) == (0, [], True)
        assert mirage("policy", "show", sid).returncode == (1 if head else 0)
    async with policy_service(planes):
        await finished(planes, sid)


def test_gaps_in_media_decide_nothing_about_decisions(mirage: Command) -> None:
    """A recorder that could not keep up with pictures still has every event."""
    session = SyntheticSession(80)
    video = frames([EntryId(session.metrics[0].id.ms + n * 50, 0) for n in range(10)], shade=9)
    path = archived(mirage.folder / "gaps.mcap", session, video_in=video, video_out=video)
    code, told = mirage.json("replay", str(path))
    assert (code, told["first_difference"]) == (0, None)
    assert any(problem.startswith("video:in: ") for problem in told["problems"])


def test_a_tampered_decision_is_named_with_its_cause_and_the_state_around_it(mirage: Command) -> None:
    session = SyntheticSession(100)
    path = archived(mirage.folder / "t.mcap", session, policy=tampered(session.policy, 1))
    code, told = mirage.json("replay", str(path))
    assert code == 3
    found = told["first_difference"]
    assert found["kind"] == "changed"
    assert found["position"] == 1
    assert found["expected"]["id"] == found["got"]["id"] == str(session.policy[1].id)
    assert found["expected"]["bytes"] == session.policy[1].fields[EVENT].hex() != found["got"]["bytes"]
    assert found["cause"]["id"] in {str(entry.id) for entry in session.metrics}
    assert found["cause"]["text"]
    assert found["changed"]
    assert "audio" in found["state_before"]
    people = mirage("replay", str(path))
    assert people.returncode == 3
    assert found["expected"]["bytes"] in people.stdout
    assert found["cause"]["id"] in people.stdout


def test_another_rules_version_is_said(mirage: Command) -> None:
    session = SyntheticSession(10)
    first = Entry(session.metrics[0].id, {EVENT: encode(SessionStarted(rules_version=99))})
    path = archived(mirage.folder / "v.mcap", session, metrics=[first, *session.metrics[1:]])
    page = mirage.folder / "v.html"
    code, told = mirage.json("replay", str(path), "--report", str(page))
    assert (code, told["rules_version"], told["first_difference"]) == (1, 99, None)
    assert "rules version 99" in told["problems"][0]
    assert "rules version 99" in page.read_text("utf-8")


def test_a_file_that_was_cut_off_is_compared_as_far_as_it_goes(mirage: Command) -> None:
    path = archived(mirage.folder / "cut.mcap", SyntheticSession(200))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    code, told = mirage.json("replay", str(path))
    assert code == 1
    assert told["problems"]
    assert told["events"] > 0
    assert told["first_difference"] is None


def test_without_a_server_it_says_that_there_is_no_such_recording_either(mirage: Command) -> None:
    """A name that was typed wrongly must not read as a server that is missing."""
    alone = {"MIRAGE_REDIS_URL": "", "MIRAGE_EVENTS_URL": ""}
    done = mirage("replay", "typo", **alone)
    assert done.returncode == 2
    assert f"typo is not recorded in {mirage.folder / 'data' / 'archives'}" in done.stderr
    assert "mirage up" in done.stderr


@pytest.mark.parametrize("target", ["0" * 32, "missing.mcap", "no such/session"])
def test_what_is_not_there_is_named(mirage: Command, target: str) -> None:
    done = mirage("replay", target)
    assert done.returncode == 1
    assert target in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_recording_says_is_not_obeyed_by_the_terminal(mirage: Command) -> None:
    """Its session's name and its damage are whatever its writer chose."""
    hostile = "\x1b]0;owned\x07[/nothing][red]"
    session = SyntheticSession(100)
    found = {"metrics": session.metrics, "policy": tampered(session.policy, 0)}
    path = mirage.folder / "hostile.mcap"
    export_archive(Told(found, sid=hostile, problems=(hostile,)), path, EVENT_STREAMS)
    for arguments in (["replay", str(path)], ["export", str(path), "--out", str(mirage.folder / "copy.mcap")]):
        done = mirage(*arguments)
        assert "[/nothing][red]" in done.stdout
        assert "\x1b" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_a_file_that_is_no_archive_is_named(mirage: Command) -> None:
    path = mirage.folder / "notes.txt"
    path.write_text("hello", "utf-8")
    done = mirage("replay", str(path))
    assert done.returncode == 1
    assert "notes.txt" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_if_shows_both_lists_and_says_that_the_loop_is_open(mirage: Command) -> None:
    path = archived(mirage.folder / "w.mcap", SyntheticSession(100))
    thresholds = mirage.folder / "policy.toml"
    thresholds.write_text("chunk_grow_pm = 799\nvideo_down_pm = 980\n", "utf-8")
    code, told = mirage.json("replay", str(path), "--what-if", str(thresholds))
    assert code == 0
    assert told["changed"]["video_down_pm"] == {"recorded": 750, "what_if": 980}
    assert told["recorded"] != told["what_if"]
    assert "did not run again" in told["note"]
    people = mirage("replay", str(path), "--what-if", str(thresholds), "--report", str(mirage.folder / "w.html"))
    assert people.returncode == 0
    assert "open loop" in people.stdout
    assert "what-if" in (mirage.folder / "w.html").read_text("utf-8")


@pytest.mark.parametrize(
    "arguments", [["--policy", "--what-if", "w.toml"], ["--what-if", "nowhere.toml"], ["--what-if", "bad.toml"], []]
)
def test_usage(mirage: Command, arguments: list[str]) -> None:
    (mirage.folder / "w.toml").write_text("", "utf-8")
    (mirage.folder / "bad.toml").write_text("chunk_grow = 1", "utf-8")
    path = archived(mirage.folder / "u.mcap", SyntheticSession(5))
    found = [str(mirage.folder / word) if word.endswith(".toml") else word for word in arguments]
    done = mirage("replay", *([str(path)] if found else []), *found)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_report_that_cannot_be_written_is_said(mirage: Command, tmp_path: Path) -> None:
    path = archived(mirage.folder / "r.mcap", SyntheticSession(5))
    done = mirage("replay", str(path), "--report", str(tmp_path / "nowhere" / "r.html"))
    assert done.returncode == 2
    assert "cannot be written" in done.stderr


def test_a_report_replaces_an_older_report_and_nothing_else(mirage: Command) -> None:
    """Whoever names the recording where the report should go still has the recording."""
    path, page = archived(mirage.folder / "r.mcap", SyntheticSession(5)), mirage.folder / "r.html"
    before = path.read_bytes()
    done = mirage("replay", str(path), "--report", str(path))
    assert (done.returncode, "is no report" in done.stderr) == (1, True)
    assert path.read_bytes() == before
    for _ in range(2):
        assert mirage("replay", str(path), "--report", str(page)).returncode == 0
    assert page.read_text("utf-8").endswith("</html>")
    assert page.stat().st_mode & 0o777 == 0o600
    assert sorted(item.name for item in mirage.folder.iterdir() if item.is_file()) == ["r.html", "r.mcap"]


def test_a_report_that_does_not_fit_on_the_disk_leaves_nothing(mirage: Command) -> None:
    """No half of a page, which would show a face, and an older page stays as it was."""
    path, page = archived(mirage.folder / "r.mcap", SyntheticSession(5)), mirage.folder / "r.html"
    page.write_text("<!doctype html>old", "utf-8")
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 16; exec "$0" "$@"', sys.executable, "-m", "ops.cli", "replay", path, "--report", page],
        env=mirage.environ | {"PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "cannot be written: File too large" in done.stderr) == (2, True), done.stderr
    assert page.read_text("utf-8") == "<!doctype html>old"
    assert sorted(item.name for item in mirage.folder.iterdir() if item.is_file()) == ["r.html", "r.mcap"]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_result_that_cannot_be_written_is_one_line(mirage: Command, form: list[str]) -> None:
    path = archived(mirage.folder / "r.mcap", SyntheticSession(5))
    with Path(os.devnull).with_name("full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ops.cli", "replay", path, *form],
            env=mirage.environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "mirage: the result cannot be written: No space left on device\n"


def test_nothing_to_compare_is_not_called_the_same_to_the_byte(mirage: Command) -> None:
    path = archived(mirage.folder / "short.mcap", SyntheticSession(5))
    assert "no decision was recorded, and none came out" in mirage("replay", str(path)).stdout
