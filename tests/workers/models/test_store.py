"""The store: nothing is read that is not the file it should be, and what was decided is on record."""

import hashlib
import json
from pathlib import Path

import pytest

from schemas.errors import Conflict, Misconfigured, ModelMissing, ModelRefused
from tests.workers.models.disk import room
from workers.models.manifest import CODEFORMER, MANIFEST, PITCH, SWAPPER
from workers.models.store import ModelStore

NOW = "2026-01-02T03:04:05+00:00"


def test_the_manifest_knows_every_file_well_enough_to_pull_it() -> None:
    """A hash and a place to get it from; but for what is made here, and what needs `--sha256`."""
    for name, entry in MANIFEST.items():
        assert name == entry.name
        if name == CODEFORMER:
            continue
        assert (entry.source.url or "").startswith("https://"), name
        assert entry.source.licence.terms.startswith("https://"), name
    unknown = {name for name, entry in MANIFEST.items() if entry.sha256 is None}
    assert unknown == {CODEFORMER, "vec-768-layer-12.onnx"}
    assert all(len(entry.sha256) == 64 for entry in MANIFEST.values() if entry.sha256)


def test_what_is_put_is_read_back_and_known_by_its_hash(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    digest = store.put(SWAPPER, b"weights", origin="here", at=NOW)
    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert store.read(SWAPPER) == b"weights"
    assert store.has(SWAPPER)
    again = ModelStore(tmp_path / "models")
    assert again.read(SWAPPER) == b"weights"
    assert again.records().files[SWAPPER].origin == "here"
    assert not [path for path in store.folder.iterdir() if path.name.endswith(".new")]


def test_a_name_may_leave_its_suffix_out(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.put("inswapper_128_fp16", b"weights", origin="here", at=NOW)
    assert store.read(SWAPPER) == store.read("inswapper_128_fp16") == b"weights"
    assert store.has("inswapper_128_fp16")
    assert set(store.records().files) == {SWAPPER}


def test_a_missing_model_says_how_to_get_it(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert not store.has(SWAPPER)
    for name, how in (
        (SWAPPER, f"mirage models pull {SWAPPER}"),
        (CODEFORMER, "mirage models convert codeformer"),
        ("voices/anna.onnx", "mirage models add-voice"),
    ):
        with pytest.raises(ModelMissing, match=how):
            store.read(name)


def test_a_flipped_byte_is_refused_with_both_hashes(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    good = store.put(SWAPPER, b"weights", origin="here", at=NOW)
    (tmp_path / SWAPPER).write_bytes(b"weightz")
    with pytest.raises(ModelRefused) as refusal:
        store.read(SWAPPER)
    assert good in str(refusal.value)
    assert hashlib.sha256(b"weightz").hexdigest() in str(refusal.value)


def test_a_file_of_another_length_does_not_count_as_there(tmp_path: Path) -> None:
    (tmp_path / SWAPPER).write_bytes(b"half a download")
    assert not ModelStore(tmp_path).has(SWAPPER)


def test_a_file_that_nothing_vouches_for_is_refused(tmp_path: Path) -> None:
    """A voice dropped into the folder by hand: its hash was never recorded."""
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "anna.onnx").write_bytes(b"?")
    store = ModelStore(tmp_path)
    assert store.voices() == ()
    with pytest.raises(ModelRefused, match=r"nothing says what it should be"):
        store.read("voices/anna.onnx")


def test_voices_are_listed_by_name(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    for name in ("voices/zoe.onnx", "voices/anna.onnx", "voices/anna.index"):
        store.put(name, name.encode(), origin="here", at=NOW)
    assert store.voices() == ("voices/anna.onnx", "voices/zoe.onnx")
    assert store.read("voices/anna.index") == b"voices/anna.index"


@pytest.mark.parametrize(
    "name",
    ["../secret.key", "voices/../store.json", "/etc/passwd", "voices/a/b.onnx", "voices/.onnx", "other.onnx", ""],
)
def test_no_name_leads_out_of_the_store(tmp_path: Path, name: str) -> None:
    store = ModelStore(tmp_path)
    for attempt in (store.read, store.path):
        with pytest.raises(Misconfigured, match="there is no model"):
            attempt(name)


def test_a_licence_is_accepted_once_and_keeps_its_first_date(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.accepted("s-lab") is None
    store.accept("s-lab", at=NOW)
    store.accept("s-lab", at="2027-01-01T00:00:00+00:00")
    assert ModelStore(tmp_path).accepted("s-lab") == NOW
    assert json.loads((tmp_path / "store.json").read_text("utf-8"))["licences"] == {"s-lab": NOW}


def test_forgetting_a_record_brings_the_manifest_back(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.put(PITCH, b"other", origin="here", at=NOW)
    store.forget(PITCH)
    assert store.expected(PITCH) == (MANIFEST[PITCH].sha256, MANIFEST[PITCH].size)


@pytest.mark.parametrize("content", ["{", "[]", '{"files": {"a": {}}, "licences": {}}', '{"files": {}}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.json").write_text(content, "utf-8")
    with pytest.raises(Misconfigured, match=r"store\.json is damaged"):
        ModelStore(tmp_path).has(PITCH)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first, second = ModelStore(tmp_path), ModelStore(tmp_path)
    with first.locked("a pull"), pytest.raises(Conflict, match=r"in use by pid \d+ \(a pull\)"), second.locked("b"):
        pass
    with second.locked("b"):
        pass


def test_a_full_disk_is_named_and_leaves_what_was(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    store.accept("first", at=NOW)
    with room(10), pytest.raises(Misconfigured, match=r"store\.json.* cannot be written"):
        store.accept("second", at=NOW)
    assert (store.accepted("first"), store.accepted("second")) == (NOW, None)
    assert [path.name for path in tmp_path.iterdir()] == ["store.json"]


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(Misconfigured, match=r"file/models cannot be made"):
        ModelStore(tmp_path / "file" / "models").put(PITCH, b"", origin="", at=NOW)
