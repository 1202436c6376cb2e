"""Settings are read once, and a mistake is named with what is accepted."""

import re
from pathlib import Path

import pytest

from ops.installation import Installation, RunInfo
from ops.settings import Settings, explain, read
from schemas.errors import Misconfigured


def test_a_fresh_machine_needs_no_configuration() -> None:
    settings = read({"PATH": "/bin", "HOME": "/home/x"})
    assert settings == Settings()
    assert (settings.chunk_ms, settings.max_faces, settings.max_frame_bytes) == (192, 1, 262_144)


def test_values_come_from_the_environment() -> None:
    settings = read({"MIRAGE_CHUNK_MS": "96", "MIRAGE_ALLOWED_ORIGINS": "https://a.example, https://b.example"})
    assert settings.chunk_ms == 96
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("MIRAGE_CHUNK_MS", "100", "96, 128, 160, 192, 256, 320"),
        ("MIRAGE_PORT", "99999", "0 to 65535"),
        ("MIRAGE_PORT", "http", "whole number"),
        ("MIRAGE_REDIS_URL", "localhost:6379", "redis://"),
        ("MIRAGE_ENGINE", "magic", "auto, embedded"),
        ("MIRAGE_MAX_FACES", "0", "1 to 16"),
        ("MIRAGE_SWAP_LIGHT", "1.5", "0 to 1"),
        ("MIRAGE_SWAP_KEEP_MOUTH", "yes", "0 to 1"),
    ],
)
def test_a_bad_value_names_the_variable_and_what_is_accepted(name: str, value: str, accepted: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        read({name: value})
    assert name in str(caught.value)
    assert accepted in str(caught.value)


def test_an_unknown_variable_is_an_error() -> None:
    with pytest.raises(Misconfigured, match=r"MIRAGE_CHUNKMS.*MIRAGE_CHUNK_MS"):
        read({"MIRAGE_CHUNKMS": "96"})


def test_secrets_are_not_shown() -> None:
    environ = {"MIRAGE_JWT_SECRET": "s" * 40}
    rows = {row.name: row for row in explain(read(environ), environ)}
    assert rows["MIRAGE_JWT_SECRET"].value == "(hidden)"
    assert rows["MIRAGE_JWT_SECRET"].source == "environment"
    assert rows["MIRAGE_PORT"].source == "default"


def test_credentials_in_urls_are_not_shown() -> None:
    environ = {"MIRAGE_REDIS_URL": "redis://user:hunter2@server:6379/0"}
    rows = {row.name: row for row in explain(read(environ), environ)}
    assert rows["MIRAGE_REDIS_URL"].value == "redis://(hidden)@server:6379/0"
    with pytest.raises(Misconfigured) as caught:
        read({"MIRAGE_REDIS_URL": "http://user:hunter2@server"})
    assert "hunter2" not in str(caught.value)


def test_one_system_at_a_time_holds_a_data_directory(tmp_path: Path) -> None:
    first, second = Installation(tmp_path), Installation(tmp_path)
    with first.locked():
        first.announce(RunInfo(1, "unix:///m", "unix:///e", "http://127.0.0.1:1"))
        with pytest.raises(Misconfigured, match=r"already running .* http://127.0.0.1:1"), second.locked():
            pass
        assert second.running() == RunInfo(1, "unix:///m", "unix:///e", "http://127.0.0.1:1")
    with second.locked():
        assert second.running() is None


def test_what_a_killed_system_left_behind_does_not_count(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.prepare()
    installation.announce(RunInfo(2**22 + 1, "unix:///m", "unix:///e"))
    assert installation.running() is None
    (tmp_path / "run.json").write_text("{", "utf-8")
    assert installation.running() is None


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    key = Installation(tmp_path).secret()
    assert len(key) == 64
    assert Installation(tmp_path).secret() == key
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0
    (tmp_path / "secret.key").write_bytes(b"short")
    with pytest.raises(Misconfigured, match="too short"):
        Installation(tmp_path).secret()


def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", "utf-8")
    with pytest.raises(Misconfigured, match="cannot be written"):
        Installation(blocked / "data").prepare()


def test_the_documented_settings_are_those_of_the_code() -> None:
    """Name by name, with the same words."""
    spec = (Path(__file__).parents[2] / "SPEC.md").read_text("utf-8")
    documented = dict(re.findall(r"^\| `(MIRAGE_\w+)` \|.*\| (.*) \|$", spec.partition("### C.8 ")[2], re.MULTILINE))
    assert documented == {row.name: row.meaning for row in explain(read({}), {})}
