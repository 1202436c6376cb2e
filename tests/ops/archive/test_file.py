"""The file that a recorder writes: one writer, resumed where it was left, never written over another's."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from ops.archive.file import ArchiveBusy, ArchiveFile, archive_path
from ops.archive.layout import About
from ops.archive.model import NotAnArchive
from ops.archive.reader import open_archive
from ops.archive.speed import archive_mb_per_s
from ops.settings import read
from ops.wiring import archive_dir
from schemas.errors import InputRejected, Misconfigured
from schemas.ids import ZERO
from tests.ops.archive.sessions import RECORD, append, content, in_order, short_session, write

ABOUT = About(RECORD.sid, RECORD)
FOUND = short_session()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = ArchiveFile.open(tmp_path / "a.mcap", ABOUT)
    with pytest.raises(ArchiveBusy, match="being written by another process"):
        ArchiveFile.open(tmp_path / "a.mcap", ABOUT)
    first.close()
    ArchiveFile.open(tmp_path / "a.mcap", ABOUT).close()


@pytest.mark.parametrize("finished", [True, False])
def test_cut_anywhere_and_resumed_it_ends_as_if_nothing_had_happened(tmp_path: Path, *, finished: bool) -> None:
    """Entries after the last ID that the file holds are written again, as a recorder reads them again."""
    path, chance = tmp_path / "a.mcap", Random(3)
    whole = write(path, FOUND, finish=finished, chunk_bytes=9_000)
    for cut in [0, 1, 8, 30, *(chance.randrange(len(whole)) for _ in range(60)), len(whole)]:
        path.write_bytes(whole[:cut])
        file = ArchiveFile.open(path, ABOUT)
        rest = [pair for pair in in_order(FOUND) if pair[1].id > file.positions.get(pair[0], ZERO)]
        append(file, rest, chunk_bytes=9_000)
        file.finish()
        file.close()
        session = open_archive(path)
        assert session.problems == (), f"cut at {cut}"
        assert content(session) == FOUND, f"cut at {cut}"
        for entries in content(session).values():
            assert all(one.id < other.id for one, other in pairwise(entries))


def test_what_somebody_else_put_there_is_left_alone(tmp_path: Path) -> None:
    for diary in (b"dear diary", b"dear diary " * 1000):
        (tmp_path / "a.mcap").write_bytes(diary)
        with pytest.raises(NotAnArchive, match="move it away"):
            ArchiveFile.open(tmp_path / "a.mcap", ABOUT)
        assert (tmp_path / "a.mcap").read_bytes() == diary
    (tmp_path / "link.mcap").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        ArchiveFile.open(tmp_path / "link.mcap", ABOUT)
    assert not (tmp_path / "target").exists()


def test_archives_lie_in_the_data_directory_unless_told_otherwise() -> None:
    assert archive_dir(read({"MIRAGE_DATA_DIR": "/data"})) == Path("/data/archives")
    assert archive_dir(read({"MIRAGE_DATA_DIR": "/data", "MIRAGE_ARCHIVE_DIR": "/big"})) == Path("/big")
    with pytest.raises(Misconfigured, match=r"MIRAGE_RECORD_WORKERS.*0 to 64"):
        read({"MIRAGE_RECORD_WORKERS": "many"})


def test_a_session_id_is_no_path() -> None:
    with pytest.raises(InputRejected, match="not a session ID"):
        archive_path(Path("/archives"), "../../etc/passwd")


def test_the_benchmark_writes_and_cleans_up(tmp_path: Path) -> None:
    assert archive_mb_per_s(tmp_path, megabytes=4) > 0
    assert list(tmp_path.iterdir()) == []
