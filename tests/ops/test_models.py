"""`mirage models` as real processes: what it prints, its exit codes, two at once, and one that is killed."""

import asyncio
import contextlib
import hashlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import Patience, until
from tests.workers.models.file_server import FileServer, Hosted, serving
from tests.workers.video.neural.standins import detector_graph
from tests.workers.voice.neural.standins import voice
from workers.models.manifest import MANIFEST
from workers.models.store import ModelStore

ROOT = Path(__file__).parents[2]
DATA = np.random.default_rng(5).bytes(2_000_003)
AGREED = "Anna signed a form on 2026-01-02"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as running:
        running.files["/rmvpe.onnx"] = Hosted(DATA)
        yield running


class MirageModels:
    """Runs `mirage models` on a store of its own, pulling from a mirror on loopback."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.store = ModelStore(folder / "models")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
        self.environ = kept | {
            "MIRAGE_MODELS_DIR": str(self.store.folder),
            "MIRAGE_DATA_DIR": str(folder / "data"),
            "MIRAGE_MODEL_MIRROR": server.url,
        }

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ops.cli", "models", *arguments],
            env=self.environ | more,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err


@pytest.fixture
def command(tmp_path: Path, server: FileServer) -> MirageModels:
    return MirageModels(tmp_path, server)


def test_the_list_names_every_model_with_its_licence(command: MirageModels) -> None:
    code, out, _ = command.run("list", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert set(rows) == set(MANIFEST)
    assert rows["inswapper_128_fp16.onnx"]["commercial"] == "no"
    assert rows["rmvpe.onnx"]["commercial"] == "yes"
    assert {row["state"] for row in rows.values()} == {"missing"}
    assert not command.store.folder.exists()


def test_a_pull_is_verified_listed_and_offline_afterwards(command: MirageModels, server: FileServer) -> None:
    code, out, err = command.run("pull", "rmvpe.onnx", "--sha256", DIGEST, "--json")
    assert code == 0, err
    assert [(one["name"], one["outcome"], one["sha256"]) for one in json.loads(out)] == [
        ("rmvpe.onnx", "pulled", DIGEST)
    ]
    server.asked.clear()
    code, out, _ = command.run("pull", "rmvpe.onnx", "--json")
    assert (code, json.loads(out)[0]["outcome"], server.asked) == (0, "present", [])
    code, out, _ = command.run("verify", "--json")
    assert (code, [row["ok"] for row in json.loads(out)]) == (0, [True])
    code, out, _ = command.run("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert rows["rmvpe.onnx"]["state"] == "ready"
    assert rows["rmvpe.onnx"]["recorded"]["origin"] == f"{server.url}/rmvpe.onnx"


def test_verify_fails_on_a_flipped_byte(command: MirageModels) -> None:
    command.store.put("rmvpe.onnx", DATA, origin="here", at="now")
    (command.store.folder / "rmvpe.onnx").write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    code, out, _ = command.run("verify", "--json")
    assert code == 1
    assert DIGEST in json.loads(out)[0]["detail"]


def test_a_folder_whose_name_looks_like_markup_is_shown_as_it_is(command: MirageModels, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "[mine]")
    store.put("rmvpe.onnx", DATA, origin="here", at="now")
    store.path("rmvpe.onnx").write_bytes(b"other")
    for what in ("list", "verify"):
        _, out, _ = command.run(what, MIRAGE_MODELS_DIR=str(store.folder), COLUMNS="300")
        assert str(store.folder) in out


def test_a_licence_that_nobody_accepts_is_exit_code_4(command: MirageModels, server: FileServer) -> None:
    code, _, err = command.run("pull", "face")
    assert code == 4
    assert "--accept-licence insightface" in err
    assert server.asked == []


def at_terminal(command: MirageModels, *arguments: str, question: bytes, answer: bytes) -> tuple[int, bytes]:
    """Run a command with a person before it who answers one question; returns its exit code and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        line = [sys.executable, "-m", "ops.cli", "models", *arguments]
        os.execve(sys.executable, line, command.environ | {"TERM": "xterm"})  # noqa: S606 - our own command
    seen, asked, patience = b"", False, Patience()
    with contextlib.suppress(OSError):  # Linux: the other end is closed
        while True:
            if patience.ends():
                os.kill(pid, signal.SIGKILL)  # it hangs: the exit code says so
            if select.select([terminal], [], [], 0.5)[0]:
                seen += os.read(terminal, 4096)
            elif asked:
                os.write(terminal, answer)  # again: a line editor that is just starting loses an interrupt
            if not asked and question in seen:
                os.write(terminal, answer)
                asked = True
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert asked, seen
    return code, seen


@pytest.mark.parametrize(("answer", "expected"), [(b"n\n", 4), (b"\x03", 1)])
def test_a_person_at_a_terminal_sees_the_question_and_may_say_no(
    command: MirageModels, answer: bytes, expected: int
) -> None:
    """Once for a licence, however many files are under it. No bar is drawn over it, and an interrupt is obeyed."""
    code, seen = at_terminal(command, "pull", "face", question=b"accept it? [y/N]: ", answer=answer)
    assert code == expected, seen
    assert seen.count(b"accept it? [y/N]: ") == 1
    assert b"\x1b[2K" not in seen  # no line was wiped


def test_a_person_at_a_terminal_is_asked_how_whose_voice_it_is_agreed(command: MirageModels, tmp_path: Path) -> None:
    (tmp_path / "anna.onnx").write_bytes(voice())
    arguments = ("add-voice", str(tmp_path / "anna.onnx"))
    code, seen = at_terminal(command, *arguments, question=b"agree to it?: ", answer=AGREED.encode() + b"\n")
    assert code == 0, seen
    assert command.store.records().files["voices/anna.onnx"].attested == AGREED


def test_a_licence_that_is_none_is_a_usage_error_that_lists_those_there_are(command: MirageModels) -> None:
    code, _, err = command.run("pull", "rmvpe", "--accept-licence", "nonsense")
    assert code == 2
    assert all(f"'{entry.licence.id}'" in err for entry in MANIFEST.values())


def test_a_name_that_is_none_is_refused_before_anything_is_pulled_with_models_and_groups(
    command: MirageModels, server: FileServer
) -> None:
    code, _, err = command.run("pull", "rmvpe", "faces")
    assert code == 2
    assert "there is no model 'faces'" in err
    assert err.strip().endswith("the groups face, voice, enhance, occlusion, all")
    assert server.asked == []


def test_a_file_that_cannot_be_had_does_not_keep_the_rest_of_its_group_away(command: MirageModels) -> None:
    """What was had is told, and so is every failure; a hash of the user's own is not needed for any of a group."""
    command.store.put("vec-768-layer-12.onnx", DATA, origin="here", at="now")
    code, out, err = command.run("pull", "voice", "codeformer.pth", "--accept-licence", "contentvec", "--json")
    assert code == 2
    assert [one["name"] for one in json.loads(out)] == ["vec-768-layer-12.onnx"]
    wrong, declined = err.strip().splitlines()
    assert f"/rmvpe.onnx is {len(DATA)} bytes long" in wrong
    assert "--accept-licence s-lab" in declined


def test_a_wait_for_a_server_is_told(command: MirageModels, server: FileServer) -> None:
    server.files["/rmvpe.onnx"] = Hosted(DATA, statuses=[503])
    code, _, err = command.run("pull", "rmvpe", "--sha256", DIGEST)
    assert code == 0
    assert f"{server.url}/rmvpe.onnx: HTTP 503; next attempt in 1 s" in err


@pytest.mark.parametrize("columns", [80, 100])
def test_the_list_cuts_no_word_and_tells_how_far_a_pull_came(command: MirageModels, columns: int) -> None:
    command.store.prepare(command.store.folder)
    (command.store.folder / "rmvpe.onnx.part").write_bytes(DATA)
    command.store.put("vec-768-layer-12.onnx", DATA, origin="here", at="now")
    command.store.put(f"voices/{'long' * 15}.onnx", DATA, origin="here", at="now")
    _, out, _ = command.run("list", COLUMNS=str(columns))
    assert "…" not in out
    lines = out.splitlines()
    for entry in MANIFEST.values():
        assert any(entry.name in line and entry.licence.id in line for line in lines), entry.name
        assert any(entry.licence.title in line for line in lines)
    at = next(number for number, line in enumerate(lines) if "rmvpe.onnx" in line)
    assert "begun" in lines[at]
    assert "2 MB" in lines[at + 1]
    _, out, _ = command.run("list", "--json")
    rows = {row["name"]: (row["state"], row["begun_bytes"]) for row in json.loads(out)["models"]}
    assert rows["rmvpe.onnx"] == ("begun", len(DATA))
    assert rows["codeformer.pth"] == ("missing", 0)


def test_a_licence_accepted_on_the_command_line_is_recorded(command: MirageModels, server: FileServer) -> None:
    server.files["/codeformer.pth"] = Hosted(DATA)
    code, _, err = command.run("pull", "codeformer.pth", "--sha256", DIGEST, "--accept-licence", "s-lab")
    assert code == 0, err
    assert command.store.accepted("s-lab") is not None
    assert command.store.read("codeformer.pth") == DATA


def test_a_wrong_file_is_exit_code_2_and_not_kept(command: MirageModels, server: FileServer) -> None:
    code, _, err = command.run("pull", "rmvpe.onnx")
    assert code == 2
    assert f"is {len(DATA)} bytes long" in err
    assert not command.store.has("rmvpe.onnx")
    assert len(server.asked) == 1


def test_an_override_replaces_the_mirror(command: MirageModels, server: FileServer) -> None:
    server.files["/mine"] = Hosted(DATA)
    command.environ["MIRAGE_INSWAPPER_URL"] = f"{server.url}/mine"
    arguments = ("--sha256", DIGEST, "--accept-licence", "insightface")
    code, _, err = command.run("pull", "inswapper_128_fp16.onnx", *arguments)
    assert code == 0, err
    assert [asked.path for asked in server.asked] == ["/mine"]


async def test_two_pulls_at_once_do_not_write_one_file(command: MirageModels, server: FileServer) -> None:
    """The second names the first and leaves; the first is not disturbed."""
    hosted = server.files["/rmvpe.onnx"] = Hosted(DATA, stall_after=[100_000])
    first = command.start("pull", "rmvpe.onnx", "--sha256", DIGEST)
    part = command.store.folder / "rmvpe.onnx.part"
    await until(lambda: asyncio.to_thread(_is_longer, part, 0), within_s=30, what="the first pull writes")
    code, _, err = command.run("pull", "rmvpe.onnx", "--sha256", DIGEST)
    assert code == 1
    assert f"in use by pid {first.pid} (mirage models pull rmvpe.onnx)" in err
    hosted.go_on.set()
    _, err = await asyncio.to_thread(first.communicate, timeout=60)
    assert first.returncode == 0, err
    assert command.store.read("rmvpe.onnx") == DATA
    assert len(server.asked) == 1


async def test_a_killed_pull_is_continued_by_the_next(command: MirageModels, server: FileServer) -> None:
    """SIGKILL in the middle: the lock is free, half a file is no model, and what came is not fetched again."""
    server.files["/rmvpe.onnx"] = Hosted(DATA, stall_after=[1_000_000])
    first = command.start("pull", "rmvpe.onnx", "--sha256", DIGEST)
    part = command.store.folder / "rmvpe.onnx.part"
    await until(lambda: asyncio.to_thread(_is_longer, part, 999_999), within_s=30, what="a megabyte came")
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    assert not command.store.path("rmvpe.onnx").exists()
    code, _, err = command.run("pull", "rmvpe.onnx", "--sha256", DIGEST)
    assert code == 0, err
    assert command.store.read("rmvpe.onnx") == DATA
    assert [asked.range for asked in server.asked] == [None, "bytes=1000000-"]


def test_converting_without_the_weights_says_what_to_pull(command: MirageModels) -> None:
    code, _, err = command.run("convert", "codeformer")
    assert code == 2
    assert "mirage models pull codeformer.pth" in err


def test_what_is_no_checkpoint_is_not_converted(command: MirageModels) -> None:
    """Without torch the message says how to install it; with torch, what is wrong with the file."""
    command.store.put("codeformer.pth", b"no checkpoint", origin="here", at="now")
    code, _, err = command.run("convert", "codeformer")
    assert code == 2
    assert ("not a torch checkpoint" if find_spec("torch") else "pip install -e '.[convert]'") in " ".join(err.split())
    assert not command.store.has("codeformer.onnx")


def test_a_voice_is_tried_copied_recorded_and_listed(command: MirageModels, tmp_path: Path) -> None:
    graph = voice()
    (tmp_path / "anna.onnx").write_bytes(graph)
    code, out, err = command.run("add-voice", str(tmp_path / "anna.onnx"), "--attest", AGREED, "--json")
    assert code == 0, err
    assert json.loads(out) == {"name": "voices/anna.onnx", "sha256": hashlib.sha256(graph).hexdigest()}
    assert command.store.read("voices/anna.onnx") == graph
    assert command.store.records().files["voices/anna.onnx"].attested == AGREED
    _, out, _ = command.run("list", "--json")
    (row,) = (row for row in json.loads(out)["models"] if row["name"] == "voices/anna.onnx")
    assert (row["state"], row["recorded"]["attested"]) == ("ready", AGREED)


@pytest.mark.parametrize("attested", [(), ("--attest", " ")])
def test_a_voice_that_nobody_attests_is_exit_code_4_and_not_kept(
    command: MirageModels, tmp_path: Path, attested: tuple[str, ...]
) -> None:
    (tmp_path / "anna.onnx").write_bytes(voice())
    code, _, err = command.run("add-voice", str(tmp_path / "anna.onnx"), *attested)
    assert code == 4
    assert "--attest TEXT" in err
    assert command.store.voices() == ()


def test_a_file_that_no_engine_could_speak_with_does_not_become_a_voice(command: MirageModels, tmp_path: Path) -> None:
    """No graph, another model's graph, a voice of one length only, and a name that leads elsewhere."""
    for data, said in (
        (b"not a graph", "anna.onnx is not an ONNX file"),
        (detector_graph(), "anna.onnx is not an RVC v2 voice"),
        (voice(locked=32), "anna.onnx fails on 65 frames"),
    ):
        (tmp_path / "anna.onnx").write_bytes(data)
        code, _, err = command.run("add-voice", str(tmp_path / "anna.onnx"), "--attest", AGREED)
        assert (code, said in err) == (2, True), err
    code, _, err = command.run("add-voice", str(tmp_path / "anna.onnx"), "--name", "../anna", "--attest", AGREED)
    assert code == 2
    assert "there is no model" in err
    assert command.store.voices() == ()


def test_a_file_that_is_no_index_is_not_added(command: MirageModels, tmp_path: Path) -> None:
    """Without faiss the message says how to install it; with faiss, what is wrong with the file."""
    (tmp_path / "anna.index").write_bytes(b"no index")
    code, _, err = command.run("add-voice", str(tmp_path / "anna.index"), "--attest", AGREED)
    assert code == 2
    assert ("anna.index: not a faiss index" if find_spec("faiss") else "pip install -e '.[neural]'") in err
    assert not command.store.path("voices/anna.index").exists()


def _is_longer(path: Path, length: int) -> bool:
    return path.exists() and path.stat().st_size > length
