"""Thresholds come from TOML, and a mistake is named with its key, its value and what is accepted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from ops.policy_file import load_policy
from ops.policy_thresholds import MEANINGS, contradiction, thresholds
from ops.settings import Settings, read
from schemas.errors import Misconfigured
from schemas.policy_config import PolicyConfig


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.toml"
    path.write_text(text, "utf-8")
    return path


def test_without_a_file_the_defaults_stand() -> None:
    assert load_policy(None) == PolicyConfig()


def test_named_thresholds_change_and_others_stay(tmp_path: Path) -> None:
    base = PolicyConfig(sync_drop_us=170_000)
    found = load_policy(written(tmp_path, "# quick\nchunk_grow_chunks = 20\n"), base=base)
    assert found == PolicyConfig(sync_drop_us=170_000, chunk_grow_chunks=20)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("chunk_grow_chunk = 20", ["chunk_grow_chunk", "did you mean chunk_grow_chunks?"]),
        ("colour = 1", ["colour", "mirage policy show"]),
        ("chunk_grow_pm = 0.75", ["chunk_grow_pm = 0.75", "whole number", "per mille"]),
        ('chunk_grow_pm = "750"', ["chunk_grow_pm = '750'", "whole number"]),
        ("skip_of = true", ["skip_of = true", "whole number"]),
        ("skip_rest_ms = -1", ["skip_rest_ms = -1", "from 0", "ms"]),
        ("ratio_memory = 0", ["ratio_memory = 0", "from 1"]),
        ("face_stable_pm = 1001", ["face_stable_pm = 1001", "0 to 1000"]),
        ("voice_retry_ms = 99999999999999999", ["voice_retry_ms"]),
        ("[chunk_grow_pm]\nx = 1", ["chunk_grow_pm", "a table"]),
        ("chunk_shrink_pm = 750", ["chunk_shrink_pm = 750", "below chunk_grow_pm (750)"]),
        ("chunk_grow_pm = 801", ["chunk_grow_pm = 801", "at most voice_fail_pm (800)"]),
        ("video_up_pm = 900", ["video_up_pm = 900", "video_down_pm"]),
        ("skip_done_us = 45000", ["skip_done_us", "skip_late_us"]),
        ("skip_late_us = 150001", ["skip_late_us", "sync_drop_us"]),
        ("invalid_frames = 201", ["invalid_frames", "invalid_of"]),
        ("video_drops = 100", ["video_drops", "video_drops_of"]),
        ("skip_of = 1", ["skip_of = 1", "2 or more"]),
        ("chunk_grow_pm = ", ["is not TOML"]),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, named: list[str]) -> None:
    path = written(tmp_path, text)
    with pytest.raises(Misconfigured) as caught:
        load_policy(path)
    for part in [*named, str(path)]:
        assert part in str(caught.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere.toml cannot be read"):
        load_policy(tmp_path / "nowhere.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(Misconfigured, match="is not TOML"):
        load_policy(tmp_path / "bytes.toml")


def test_every_threshold_has_a_meaning_and_a_default_that_is_accepted() -> None:
    names = [field.name for field in msgspec.structs.fields(PolicyConfig)]
    assert sorted(MEANINGS) == sorted(names)
    assert all(threshold.least <= threshold.default <= threshold.most for threshold in thresholds())
    assert contradiction(PolicyConfig()) is None


def test_the_least_of_every_threshold_is_one_that_policy_works_with() -> None:
    for threshold in thresholds():
        msgspec.structs.replace(PolicyConfig(), **{threshold.name: threshold.least})


def test_new_sessions_take_their_thresholds_from_a_setting(tmp_path: Path) -> None:
    from ops.ingress import ingress_settings

    path = written(tmp_path, "invalid_frames = 9")
    settings = read({"MIRAGE_POLICY": str(path)})
    assert settings.policy == path
    assert ingress_settings(settings, 1).policy == PolicyConfig(invalid_frames=9)
    assert ingress_settings(Settings(), 1).policy == PolicyConfig()


def test_a_bad_file_in_the_setting_is_a_bad_setting(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"MIRAGE_POLICY=.*invalid_framez.*did you mean invalid_frames"):
        read({"MIRAGE_POLICY": str(written(tmp_path, "invalid_framez = 9"))})


def mirage(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    environ = clean | {"MIRAGE_DATA_DIR": str(folder), "NO_COLOR": "1", "COLUMNS": "160"} | settings
    command = [sys.executable, "-m", "ops.cli", "policy", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_check_marks_what_is_changed(tmp_path: Path) -> None:
    path = written(tmp_path, "invalid_frames = 9")
    shown = mirage(tmp_path, "check", str(path))
    assert shown.returncode == 0
    assert "9 *" in shown.stdout
    assert "1 of " in shown.stdout
    told = json.loads(mirage(tmp_path, "check", str(path), "--json").stdout)
    assert [row["name"] for row in told["thresholds"] if row["changed"]] == ["invalid_frames"]


def test_check_refuses_a_mistake_with_its_name(tmp_path: Path) -> None:
    done = mirage(tmp_path, "check", str(written(tmp_path, "invalid_frames = -9")))
    assert done.returncode == 2
    assert "invalid_frames = -9" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_tells_the_thresholds_of_new_sessions(tmp_path: Path) -> None:
    path = written(tmp_path, "skip_of = 5")
    told = json.loads(mirage(tmp_path, "show", "--json", MIRAGE_POLICY=str(path)).stdout)
    assert {row["name"]: row["value"] for row in told["thresholds"]}["skip_of"] == 5
    assert str(path) in told["source"]
    assert json.loads(mirage(tmp_path, "show", "--json").stdout)["source"] == "defaults"
