"""Pulling: the right file, from where it should come, under a licence that was accepted, or nothing at all."""

import hashlib
import io
import re
import socket
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.errors import DownloadFailed, Misconfigured, ModelRefused, Refused
from tests.workers.models.disk import room
from tests.workers.models.file_server import FileServer, Hosted
from workers.models.download import ATTEMPTS
from workers.models.manifest import INSIGHTFACE, RVC_MIT, ModelFile, ModelLicence
from workers.models.pull import Origins, Pulled, Puller, PullOutcome, take_out
from workers.models.store import ModelStore

NOW = "2026-01-02T03:04:05+00:00"
FREE, BOUND, INNER = b"anybody's" * 999, b"non-commercial" * 99, b"in a zip" * 77


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


ZIP = zipped({"buffalo/inner.onnx": INNER, "buffalo/other.onnx": BOUND, "buffalo/unwanted.onnx": b"x"})


class Setting:
    """A store on a folder, a manifest whose files the server has, and a puller."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.server = server
        archive = ModelFile("pack.zip", "", RVC_MIT, len(ZIP), sha(ZIP), f"{server.url}/pack.zip")
        entries = (
            ModelFile("free.onnx", "", RVC_MIT, len(FREE), sha(FREE), f"{server.url}/free", "MIRAGE_FREE_URL"),
            ModelFile("bound.onnx", "", INSIGHTFACE, len(BOUND), sha(BOUND), f"{server.url}/bound"),
            ModelFile("unknown.onnx", "", RVC_MIT, None, None, f"{server.url}/unknown"),
            ModelFile("inner.onnx", "", RVC_MIT, len(INNER), sha(INNER), None, archive=archive),
            ModelFile("other.onnx", "", RVC_MIT, None, sha(BOUND), None, archive=archive),
            ModelFile("made.onnx", "", RVC_MIT, None, None, None),
        )
        self.store = ModelStore(folder / "models", manifest={entry.name: entry for entry in entries})
        for path, data in {"/free": FREE, "/bound": BOUND, "/unknown": FREE, "/pack.zip": ZIP}.items():
            server.files[path] = Hosted(data)
        self.agrees = False
        self.asked: list[ModelLicence] = []
        self.notices: list[str] = []

    def puller(self, origins: Origins | None = None) -> Puller:
        def agree(licence: ModelLicence) -> bool:
            self.asked.append(licence)
            return self.agrees

        return Puller(
            self.store,
            origins=origins or Origins(),
            notice=self.notices.append,
            wait=lambda _: None,
            now=lambda: NOW,
            agree=agree,
        )

    def pull(self, name: str, *, sha256: str | None = None, origins: Origins | None = None) -> Pulled:
        return self.puller(origins).pull(name, progress=silent, sha256=sha256)


def silent(done: int, total: int | None) -> None:
    """Show no progress."""


@pytest.fixture
def setting(tmp_path: Path, server: FileServer) -> Setting:
    return Setting(tmp_path, server)


def test_a_pulled_file_verifies_and_is_left_alone_afterwards(setting: Setting) -> None:
    """The second pull touches no network: an offline machine with everything there says so, and succeeds."""
    assert setting.pull("free.onnx").outcome is PullOutcome.PULLED
    assert setting.store.read("free.onnx") == FREE
    setting.server.asked.clear()
    assert setting.pull("free.onnx").outcome is PullOutcome.PRESENT
    assert setting.server.asked == []
    assert sorted(path.name for path in setting.store.folder.iterdir()) == ["free.onnx"]


def test_a_damaged_file_is_replaced(setting: Setting) -> None:
    setting.pull("free.onnx")
    (setting.store.folder / "free.onnx").write_bytes(b"damaged")
    assert setting.pull("free.onnx").outcome is PullOutcome.PULLED
    assert setting.store.read("free.onnx") == FREE


def test_a_non_commercial_file_needs_its_licence_accepted_once(setting: Setting) -> None:
    with pytest.raises(Refused, match=r"--accept-licence insightface"):
        setting.pull("bound.onnx")
    assert setting.server.asked == []
    setting.agrees = True
    setting.pull("bound.onnx")
    assert setting.store.accepted("insightface") == NOW
    setting.asked.clear()
    setting.pull("bound.onnx")
    assert setting.asked == []


def test_a_licence_that_was_declined_is_not_asked_for_again(setting: Setting) -> None:
    """Pulling a group would ask once a file."""
    setting.store = ModelStore(
        setting.store.folder, manifest={**setting.store.manifest, "bound2.onnx": entry_like(setting, "bound2.onnx")}
    )
    puller = setting.puller()
    for name in ("bound.onnx", "bound2.onnx"):
        with pytest.raises(Refused, match=rf"{name} .*--accept-licence insightface"):
            puller.pull(name, progress=silent)
    assert len(setting.asked) == 1


def entry_like(setting: Setting, name: str) -> ModelFile:
    return replace(setting.store.manifest["bound.onnx"], name=name)


def test_a_free_file_asks_for_nothing(setting: Setting) -> None:
    setting.pull("free.onnx")
    assert setting.asked == []


def test_an_override_changes_the_place_and_never_the_hash(setting: Setting) -> None:
    origins = Origins(overrides={"MIRAGE_FREE_URL": f"{setting.server.url}/elsewhere"})
    setting.server.files["/elsewhere"] = Hosted(bytes(len(FREE)))
    with pytest.raises(ModelRefused, match=sha(FREE)):
        setting.pull("free.onnx", origins=origins)
    assert not setting.store.has("free.onnx")
    setting.server.files["/elsewhere"] = Hosted(FREE)
    setting.server.asked.clear()
    assert setting.pull("free.onnx", origins=origins).origin == f"{setting.server.url}/elsewhere"
    assert [asked.path for asked in setting.server.asked] == ["/elsewhere"]


def test_another_file_is_taken_by_its_hash_and_recorded(setting: Setting) -> None:
    other = b"a better one"
    setting.server.files["/free"] = Hosted(other)
    setting.pull("free.onnx", sha256=sha(other))
    assert setting.store.read("free.onnx") == other
    receipt = setting.store.records().files["free.onnx"]
    assert (receipt.sha256, receipt.size, receipt.at) == (sha(other), len(other), NOW)
    assert setting.pull("free.onnx").outcome is PullOutcome.PRESENT


def test_the_manifests_file_can_be_had_back(setting: Setting) -> None:
    setting.server.files["/free"] = Hosted(b"a better one")
    setting.pull("free.onnx", sha256=sha(b"a better one"))
    setting.server.files["/free"] = Hosted(FREE)
    setting.pull("free.onnx", sha256=sha(FREE))
    assert setting.store.read("free.onnx") == FREE
    assert "free.onnx" not in setting.store.records().files


def test_a_file_of_unknown_hash_needs_one(setting: Setting) -> None:
    with pytest.raises(Misconfigured, match=r"sha256 of unknown\.onnx is not known .* --sha256 HASH"):
        setting.pull("unknown.onnx")
    assert setting.server.asked == []
    setting.pull("unknown.onnx", sha256=sha(FREE))
    assert setting.store.read("unknown.onnx") == FREE


def test_a_file_of_unknown_hash_on_a_mirror_is_named_with_its_path(setting: Setting, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=re.escape(f"({tmp_path}/mirror/unknown.onnx)")):
        setting.pull("unknown.onnx", origins=Origins(mirror=f"{tmp_path}/mirror"))


def test_a_server_that_is_not_there_is_waited_for_with_one_file_only(setting: Setting) -> None:
    """Offline, a group would otherwise take that long once a file; another server is still given its time."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        nobody, nobody_else = (f"http://127.0.0.1:{free.getsockname()[1]}" for free in (one, other))
    puller = setting.puller(Origins(nobody, {"MIRAGE_FREE_URL": f"{nobody_else}/free"}))
    waited = []
    for name, sha256 in (("unknown.onnx", sha(FREE)), ("inner.onnx", None), ("free.onnx", None)):
        setting.notices.clear()
        with pytest.raises(DownloadFailed, match=r"no connection .*; gave up after \d attempt"):
            puller.pull(name, progress=silent, sha256=sha256)
        waited.append(len(setting.notices))
    assert waited == [ATTEMPTS - 1, 0, ATTEMPTS - 1]
    assert "no connection" in setting.notices[0]
    assert setting.notices[0].endswith("next attempt in 1 s")


def test_a_file_brought_by_hand_is_recorded_without_network(setting: Setting) -> None:
    setting.store.folder.mkdir()
    (setting.store.folder / "unknown.onnx").write_bytes(FREE)
    assert setting.pull("unknown.onnx", sha256=sha(FREE)).outcome is PullOutcome.RECORDED
    assert setting.server.asked == []
    assert setting.store.read("unknown.onnx") == FREE


@pytest.mark.parametrize("bad", ["abc", "Z" * 64, sha(FREE).upper()])
def test_a_hash_that_is_none_is_refused(setting: Setting, bad: str) -> None:
    with pytest.raises(Misconfigured, match="64 hexadecimal digits"):
        setting.pull("free.onnx", sha256=bad)


def test_every_wanted_file_of_an_archive_comes_with_one_download(setting: Setting) -> None:
    assert setting.pull("inner.onnx").outcome is PullOutcome.PULLED
    assert setting.pull("other.onnx").outcome is PullOutcome.PRESENT
    assert setting.store.read("inner.onnx") == INNER
    assert setting.store.read("other.onnx") == BOUND
    assert len(setting.server.asked) == 1
    assert sorted(path.name for path in setting.store.folder.iterdir()) == ["inner.onnx", "other.onnx"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"buffalo/other.onnx": BOUND}, "0 files called inner.onnx"),
        ({"a/inner.onnx": INNER, "b/inner.onnx": INNER}, "2 files called inner.onnx"),
        ({"inner.onnx": bytes(1 << 22)}, f"longer than {len(INNER)} bytes"),
        ({"inner.onnx": bytes(len(INNER))}, "inner.onnx has sha256"),
    ],
)
def test_a_hostile_archive_is_refused(setting: Setting, members: dict[str, bytes], message: str) -> None:
    """Even one whose own hash is as expected: missing, doubled, swollen or exchanged members."""
    bad = zipped(members)
    archive = ModelFile("pack.zip", "", RVC_MIT, len(bad), sha(bad), f"{setting.server.url}/bad.zip")
    entry = replace(setting.store.manifest["inner.onnx"], archive=archive)
    setting.store = ModelStore(setting.store.folder, manifest={"inner.onnx": entry})
    setting.server.files["/bad.zip"] = Hosted(bad)
    with pytest.raises(ModelRefused, match=message):
        setting.pull("inner.onnx")
    assert list(setting.store.folder.iterdir()) == []


def test_a_path_in_an_archive_is_not_followed(setting: Setting, tmp_path: Path) -> None:
    """A member called ../../inner.onnx is unpacked into the store like any other."""
    bad = zipped({"../../inner.onnx": INNER})
    archive = ModelFile("pack.zip", "", RVC_MIT, len(bad), sha(bad), f"{setting.server.url}/bad.zip")
    entry = replace(setting.store.manifest["inner.onnx"], archive=archive)
    setting.store = ModelStore(setting.store.folder, manifest={"inner.onnx": entry})
    setting.server.files["/bad.zip"] = Hosted(bad)
    setting.pull("inner.onnx")
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("inner.onnx")] == ["models/inner.onnx"]


def test_a_disk_that_fills_while_an_archive_is_unpacked_is_named(setting: Setting) -> None:
    setting.store.prepare(setting.store.folder)
    packed = zipped({"inner.onnx": bytes(1 << 20)})
    (setting.store.folder / "pack.zip").write_bytes(packed)
    member = replace(setting.store.manifest["inner.onnx"], size=1 << 20, sha256=sha(bytes(1 << 20)))
    with room(1 << 19), pytest.raises(Misconfigured, match="cannot be written"):
        take_out(setting.store.folder / "pack.zip", member, setting.store.folder)
    assert not list(setting.store.folder.glob("*.part"))


def test_no_zip_at_all_is_refused(setting: Setting) -> None:
    archive = ModelFile("pack.zip", "", RVC_MIT, len(FREE), sha(FREE), f"{setting.server.url}/free")
    entry = replace(setting.store.manifest["inner.onnx"], archive=archive)
    setting.store = ModelStore(setting.store.folder, manifest={"inner.onnx": entry})
    with pytest.raises(ModelRefused, match="not a sound zip"):
        setting.pull("inner.onnx")
    with pytest.raises(Misconfigured, match="single files only"):
        setting.pull("inner.onnx", sha256=sha(INNER))


def test_a_mirror_folder_replaces_the_network(setting: Setting, tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "free.onnx").write_bytes(FREE)
    (mirror / "pack.zip").write_bytes(ZIP)
    origins = Origins(mirror=str(mirror))
    setting.pull("free.onnx", origins=origins)
    setting.pull("inner.onnx", origins=origins)
    assert setting.server.asked == []
    assert (mirror / "pack.zip").read_bytes() == ZIP
    with pytest.raises(DownloadFailed, match="cannot be copied"):
        setting.pull("unknown.onnx", sha256=sha(FREE), origins=origins)


def test_a_mirror_url_is_asked_for_files_by_their_names(setting: Setting) -> None:
    setting.server.files["/models/free.onnx"] = Hosted(FREE)
    setting.pull("free.onnx", origins=Origins(mirror=f"{setting.server.url}/models/"))
    assert [asked.path for asked in setting.server.asked] == ["/models/free.onnx"]


def test_an_override_counts_before_a_mirror(setting: Setting) -> None:
    """It is said of one file, on purpose; all others come from the mirror."""
    setting.server.files |= {"/mine": Hosted(FREE), "/mirror/bound.onnx": Hosted(BOUND)}
    origins = Origins(f"{setting.server.url}/mirror", {"MIRAGE_FREE_URL": f"{setting.server.url}/mine"})
    setting.agrees = True
    for name in ("free.onnx", "bound.onnx"):
        setting.pull(name, origins=origins)
    assert [asked.path for asked in setting.server.asked] == ["/mine", "/mirror/bound.onnx"]


def test_what_is_made_here_is_not_pulled(setting: Setting) -> None:
    with pytest.raises(Misconfigured, match=r"made\.onnx is not downloaded"):
        setting.pull("made.onnx", sha256=sha(FREE))
    with pytest.raises(Misconfigured, match="there is no model 'nothing'"):
        setting.pull("nothing")
