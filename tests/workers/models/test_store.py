"""The store: nothing is read that is not the file it should be, and what was decided is on record."""

import hashlib
import json
import re
import tracemalloc
from pathlib import Path

import pytest

from schemas.errors import Conflict, Misconfigured, ModelMissing, ModelRefused
from tests.workers.models.disk import room
from workers.models.manifest import CODEFORMER, DETECTOR, GROUPS, MANIFEST, PITCH, SWAPPER, ModelFile
from workers.models.store import ModelStore

NOW = "2026-01-02T03:04:05+00:00"


def test_the_manifest_knows_every_file_well_enough_to_pull_it() -> None:
    """A hash and a place to get it from; but for what is made here. So every group can be pulled as it is advised."""
    for name, entry in MANIFEST.items():
        assert name == entry.name
        if name == CODEFORMER:
            continue
        assert (entry.source.url or "").startswith("https://"), name
        assert entry.source.licence.terms.startswith("https://"), name
    unknown = {name for name, entry in MANIFEST.items() if entry.sha256 is None}
    assert unknown == {CODEFORMER}
    assert CODEFORMER not in {name for group in GROUPS.values() for name in group}
    assert all(len(entry.sha256) == 64 for entry in MANIFEST.values() if entry.sha256)


TERMS = re.compile(r"\(`([a-z-]+)`\)")
"""A licence's id, as LICENSES.md names it."""


def test_every_model_has_its_licence_and_its_commercial_use_in_licenses_md() -> None:
    text = (Path(__file__).parents[3] / "LICENSES.md").read_text("utf-8")
    section = text.partition("## Models that you bring in")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    header, known = rows[0], {}
    assert header[2:4] == ["licence of the weights", "commercial use"]
    licence = ""
    for row in rows[2:]:
        licence = licence if row[2] == "the same" else row[2]
        for name in re.findall(r"`([^`]+\.(?:onnx|pth))`", row[0]):
            known[name] = (licence, row[3])
    for name, entry in MANIFEST.items():
        assert name in known, f"LICENSES.md has no row for {name}"
        licence, commercial = known[name]
        assert entry.licence.id in TERMS.findall(licence), name
        assert commercial.startswith("yes") if entry.licence.commercial else "**no**" in commercial, name


def test_what_an_interrupted_pull_left_is_counted(tmp_path: Path) -> None:
    """Also of a file that comes in an archive; a voice is not pulled."""
    store = ModelStore(tmp_path)
    assert store.begun(PITCH) == store.begun(DETECTOR) == 0
    (tmp_path / f"{PITCH}.part").write_bytes(bytes(70))
    (tmp_path / f"{archive_of(DETECTOR).name}.part").write_bytes(bytes(90))
    assert (store.begun(PITCH), store.begun(DETECTOR), store.begun("voices/anna.onnx")) == (70, 90, 0)


def archive_of(name: str) -> ModelFile:
    archive = MANIFEST[name].archive
    assert archive is not None
    return archive


def test_what_is_put_is_read_back_and_known_by_its_hash(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    digest = store.put(SWAPPER, b"weights", origin="here", at=NOW)
    assert digest == hashlib.sha256(b"weights").hexdigest()
    assert store.read(SWAPPER) == b"weights"
    assert store.check(SWAPPER) == len(b"weights")
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
        for attempt in (store.read, store.check):
            with pytest.raises(ModelMissing, match=how):
                attempt(name)


def test_a_flipped_byte_is_refused_with_both_hashes(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    good = store.put(SWAPPER, b"weights", origin="here", at=NOW)
    (tmp_path / SWAPPER).write_bytes(b"weightz")
    for attempt in (store.read, store.check):
        with pytest.raises(ModelRefused) as refusal:
            attempt(SWAPPER)
        assert good in str(refusal.value)
        assert hashlib.sha256(b"weightz").hexdigest() in str(refusal.value)


def test_a_model_is_checked_without_being_held(tmp_path: Path) -> None:
    """The swapper alone is 277 MB, and what checks it may be the process that only starts others."""
    store = ModelStore(tmp_path)
    store.put(SWAPPER, bytes(8_000_000), origin="here", at=NOW)
    tracemalloc.start()
    assert store.check(SWAPPER) == 8_000_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_000_000


def test_a_model_that_is_a_folder_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / SWAPPER).mkdir()
    store = ModelStore(tmp_path)
    for attempt in (store.read, store.check):
        with pytest.raises(Misconfigured, match=f"{SWAPPER} cannot be read"):
            attempt(SWAPPER)


def test_a_file_of_another_length_does_not_count_as_there(tmp_path: Path) -> None:
    (tmp_path / SWAPPER).write_bytes(b"half a download")
    assert not ModelStore(tmp_path).has(SWAPPER)


def test_a_file_that_nothing_vouches_for_is_refused(tmp_path: Path) -> None:
    """A voice dropped into the folder by hand: its hash was never recorded."""
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "anna.onnx").write_bytes(b"?")
    store = ModelStore(tmp_path)
    assert store.voices() == ()
    for attempt in (store.read, store.check):
        with pytest.raises(ModelRefused, match=r"nothing says what it should be"):
            attempt("voices/anna.onnx")


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
    for attempt in (store.read, store.check, store.path):
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
