"""Downloads from a real server that behaves badly in every way that servers do."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DownloadFailed, Misconfigured, ModelRefused
from tests.workers.models.disk import room
from tests.workers.models.file_server import FileServer, Hosted
from workers.models import download
from workers.models.download import Download, Wanted, copy_file

DATA = np.random.default_rng(4).bytes(700_001)
DIGEST = hashlib.sha256(DATA).hexdigest()


class Recorder:
    """What a download told and how long it wanted to wait; nothing sleeps."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int | None]] = []
        self.waits: list[float] = []
        self.notices: list[str] = []

    def progress(self, done: int, total: int | None) -> None:
        self.told.append((done, total))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


def fetch(
    server: FileServer, folder: Path, recorder: Recorder, *, path: str = "/m", size: int | None = len(DATA)
) -> bytes:
    fetcher = Download(
        folder, progress=recorder.progress, notice=recorder.notices.append, wait=recorder.waits.append, timeout_s=0.5
    )
    return fetcher.fetch(Wanted("m.onnx", server.url + path, DIGEST, size)).read_bytes()


def test_a_whole_file_comes_in_one_request(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    server.files["/m"] = Hosted(DATA)
    assert fetch(server, tmp_path, recorder) == DATA
    assert len(server.asked) == 1
    assert recorder.told[0] == (0, len(DATA))
    assert recorder.told[-1] == (len(DATA), len(DATA))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx.part"]


def test_a_truncated_answer_is_continued_where_it_ended(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    server.files["/m"] = Hosted(DATA, cut_after=[100_000, 200_000])
    assert fetch(server, tmp_path, recorder) == DATA
    assert [asked.range for asked in server.asked] == [None, "bytes=100000-", "bytes=300000-"]
    assert {asked.if_range for asked in server.asked[1:]} == {'"v1"'}


def test_a_body_that_stalls_is_asked_for_again_from_where_it_stalled(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    server.files["/m"] = Hosted(DATA, stall_after=[50_000])
    assert fetch(server, tmp_path, recorder) == DATA
    assert server.asked[1].range == "bytes=50000-"


def test_an_interrupted_download_is_continued_by_the_next_one(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    hosted = server.files["/m"] = Hosted(DATA, cut_after=[100_000] + [0] * 10)
    with pytest.raises(DownloadFailed, match=r"100000 bytes are kept"):
        fetch(server, tmp_path, recorder)
    hosted.cut_after.clear()
    server.asked.clear()
    assert fetch(server, tmp_path, recorder) == DATA
    assert [asked.range for asked in server.asked] == ["bytes=100000-"]


def test_a_server_that_ignores_ranges_sends_the_file_from_the_start(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    server.files["/m"] = Hosted(DATA, ranges=False, cut_after=[100_000])
    assert fetch(server, tmp_path, recorder) == DATA
    assert len(server.asked) == 2


def test_a_changed_file_is_not_joined_to_the_old_part(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    """Another ETag: the server answers with the whole file, and the part starts over."""
    hosted = server.files["/m"] = Hosted(bytes(len(DATA)), etag='"old"', cut_after=[100_000] + [0] * 10)
    with pytest.raises(DownloadFailed):
        fetch(server, tmp_path, recorder)
    server.files["/m"] = Hosted(DATA, etag='"new"')
    hosted.go_on.set()
    assert fetch(server, tmp_path, recorder) == DATA
    assert server.asked[-1].if_range == '"old"'


def test_a_changed_file_without_etag_is_noticed_by_its_hash(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    """A server that appends the new file to the old part gets one more chance, from the start."""
    server.files["/m"] = Hosted(bytes(len(DATA)), etag="", cut_after=[100_000] + [0] * 10)
    with pytest.raises(DownloadFailed):
        fetch(server, tmp_path, recorder)
    server.files["/m"] = Hosted(DATA, etag="")
    server.asked.clear()
    assert fetch(server, tmp_path, recorder) == DATA
    assert [asked.range for asked in server.asked] == ["bytes=100000-", None]


def test_a_part_of_another_url_is_not_used(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    server.files["/old"] = Hosted(bytes(len(DATA)), cut_after=[100_000] + [0] * 10)
    with pytest.raises(DownloadFailed):
        fetch(server, tmp_path, recorder, path="/old")
    server.files["/m"] = Hosted(DATA)
    assert fetch(server, tmp_path, recorder) == DATA
    assert [asked.range for asked in server.asked if asked.path == "/m"] == [None]


def test_a_part_longer_than_the_file_starts_over(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    """The server answers 416."""
    server.files["/m"] = Hosted(DATA)
    (tmp_path / "m.onnx.part").write_bytes(bytes(len(DATA) + 5))
    about = {"url": hashlib.sha256(f"{server.url}/m".encode()).hexdigest(), "validator": '"v1"'}
    (tmp_path / "m.onnx.part.json").write_text(json.dumps(about), "utf-8")
    assert fetch(server, tmp_path, recorder, size=None) == DATA
    assert [asked.range for asked in server.asked] == [f"bytes={len(DATA) + 5}-", None]


def test_a_wrong_file_is_refused_with_both_hashes_and_not_kept(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    other = bytes(len(DATA))
    server.files["/m"] = Hosted(other)
    with pytest.raises(ModelRefused) as refusal:
        fetch(server, tmp_path, recorder)
    assert DIGEST in str(refusal.value)
    assert hashlib.sha256(other).hexdigest() in str(refusal.value)
    assert list(tmp_path.iterdir()) == []
    assert len(server.asked) == 1


def test_a_file_of_another_length_is_refused_before_it_is_fetched(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    server.files["/m"] = Hosted(DATA * 2)
    with pytest.raises(ModelRefused, match=rf"is {2 * len(DATA)} bytes long, expected {len(DATA)}"):
        fetch(server, tmp_path, recorder)
    assert recorder.told == []


def test_an_endless_body_is_cut_off(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    """Without a length in the answer, the manifest's length is the limit."""
    server.files["/m"] = Hosted(DATA * 4, says_length=False)
    with pytest.raises(ModelRefused, match=rf"longer than {len(DATA)} bytes"):
        fetch(server, tmp_path, recorder)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_not_tried_again(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    with pytest.raises(DownloadFailed, match=r"/m: HTTP 404"):
        fetch(server, tmp_path, recorder)
    assert recorder.waits == []


def test_a_busy_server_is_tried_again_after_growing_waits(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    server.files["/m"] = Hosted(DATA, statuses=[503, 500, 429])
    assert fetch(server, tmp_path, recorder) == DATA
    assert recorder.waits == [1, 2, 4]
    assert recorder.notices == [
        f"{server.url}/m: HTTP {status}; next attempt in {wait} s" for status, wait in ((503, 1), (500, 2), (429, 4))
    ]


@pytest.mark.parametrize(("said", "waited"), [("7", 7), ("86400", 60), ("Wed, 21 Oct 2026 07:28:00 GMT", 1)])
def test_a_server_may_say_when_to_try_again_within_reason(
    server: FileServer, tmp_path: Path, recorder: Recorder, said: str, waited: float
) -> None:
    server.files["/m"] = Hosted(DATA, statuses=[503], retry_after=said)
    assert fetch(server, tmp_path, recorder) == DATA
    assert recorder.waits == [waited]


def test_a_server_that_stays_busy_is_given_up(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    server.files["/m"] = Hosted(DATA, statuses=[503] * 20)
    with pytest.raises(DownloadFailed, match=rf"HTTP 503; gave up after {download.ATTEMPTS} attempts"):
        fetch(server, tmp_path, recorder)
    assert len(server.asked) == download.ATTEMPTS


def test_redirects_are_followed_and_keep_the_range(server: FileServer, tmp_path: Path, recorder: Recorder) -> None:
    server.files["/real"] = Hosted(DATA, cut_after=[100_000])
    server.redirects["/m"] = "/real"
    assert fetch(server, tmp_path, recorder) == DATA
    assert server.asked[-1].path == "/real"
    assert server.asked[-1].range == "bytes=100000-"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/m"])
def test_a_redirect_out_of_http_is_refused(server: FileServer, tmp_path: Path, recorder: Recorder, target: str) -> None:
    server.redirects["/m"] = target
    with pytest.raises((DownloadFailed, ModelRefused), match=r"redirects to|HTTP 302"):
        fetch(server, tmp_path, recorder)


@pytest.mark.parametrize(
    "head",
    [
        b"302 Found\r\nLocation: http://[::1/",
        b"302 Found\r\nLocation: ftp://host:abc/",
        b"200 OK\r\nContent-Length: \xb2",
        b"200 OK\r\nContent-Length: " + b"9" * 5000,
        b"206 Partial Content\r\nContent-Range: bytes " + b"9" * 5000 + b"-1/5",
        b"503 Busy\r\nContent-Length: 0\r\nRetry-After: \xb2",
    ],
)
def test_headers_that_make_no_sense_are_a_failed_download(
    server: FileServer, tmp_path: Path, recorder: Recorder, head: bytes
) -> None:
    server.files["/m"] = Hosted(DATA, raw=b"HTTP/1.1 " + head + b"\r\n\r\n")
    with pytest.raises(DownloadFailed, match=re.escape(server.url)):
        fetch(server, tmp_path, recorder)


@pytest.mark.parametrize("url", ["http://host:abc/m", "http://[::1/m"])
def test_an_address_that_is_none_is_a_failed_download(tmp_path: Path, recorder: Recorder, url: str) -> None:
    fetcher = Download(tmp_path, progress=recorder.progress, notice=recorder.notices.append, wait=recorder.waits.append)
    with pytest.raises(DownloadFailed, match="an address that is none"):
        fetcher.fetch(Wanted("m.onnx", url, DIGEST, None))


def test_a_full_disk_is_noticed_before_the_download(
    server: FileServer, tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/m"] = Hosted(DATA)
    monkeypatch.setattr(download, "FREE_MARGIN", shutil.disk_usage(tmp_path).total)
    with pytest.raises(Misconfigured, match=r"MB free"):
        fetch(server, tmp_path, recorder)
    assert not (tmp_path / "m.onnx.part").exists()


def test_a_disk_that_fills_at_the_end_is_not_mistaken_for_a_wrong_file(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    """A write may write a part and report no error; what came is kept and continued when there is room."""
    server.files["/m"] = Hosted(DATA, says_length=False)
    with room(len(DATA) - 1000), pytest.raises(Misconfigured, match="cannot be written"):
        fetch(server, tmp_path, recorder, size=None)
    assert fetch(server, tmp_path, recorder, size=None) == DATA
    assert server.asked[-1].range is not None


def test_credentials_and_signatures_of_a_url_are_not_shown(
    server: FileServer, tmp_path: Path, recorder: Recorder
) -> None:
    with pytest.raises(DownloadFailed) as failed:
        fetch(server, tmp_path, recorder, path="/m?signature=hunter2")
    assert "hunter2" not in str(failed.value)
    assert download.shown("https://me:hunter2@host:8/x?y=hunter2") == "https://host:8/x"


def test_a_mirrors_file_is_copied_and_checked(tmp_path: Path, recorder: Recorder) -> None:
    source = tmp_path / "mirror.onnx"
    source.write_bytes(DATA)
    wanted = Wanted("m.onnx", str(source), DIGEST, None)
    assert copy_file(source, wanted, tmp_path, recorder.progress).read_bytes() == DATA
    source.write_bytes(DATA[:-1])
    with pytest.raises(ModelRefused, match=DIGEST):
        copy_file(source, wanted, tmp_path, recorder.progress)
    source.unlink()
    with pytest.raises(DownloadFailed, match=r"mirror\.onnx cannot be copied: .*No such file"):
        copy_file(source, wanted, tmp_path, recorder.progress)


@pytest.mark.parametrize("mirror", ["{tmp_path}/none", "ftp://mirror.example"])
def test_a_mirror_that_is_no_folder_is_named_with_what_a_mirror_may_be(
    tmp_path: Path, recorder: Recorder, mirror: str
) -> None:
    source = Path(mirror.format(tmp_path=tmp_path)) / "m.onnx"
    with pytest.raises(DownloadFailed, match=r"there is no folder .*MIRAGE_MODEL_MIRROR takes a folder, or a URL"):
        copy_file(source, Wanted("m.onnx", str(source), DIGEST, None), tmp_path, recorder.progress)
