"""A torn or damaged archive gives everything that is intact, says what is not, and never gives anything wrong."""

from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import Writer

from ops.archive.chunk import messages_in
from ops.archive.layout import STREAM_OF, About, head, metadata, read_metadata
from ops.archive.model import EmptyArchive, NewerArchive, NotAnArchive
from ops.archive.reader import open_archive
from ops.archive.walk import ChunkSpan, FileBytes, read_chunk, walk
from schemas.bus.base import Entry
from schemas.errors import NotFound
from tests.ops.archive.sessions import RECORD, content, short_session, write

FOUND = short_session(frames=12, frame_bytes=60)
CHUNK_BYTES = 900


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "a.mcap", FOUND, chunk_bytes=CHUNK_BYTES)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "a.mcap"


def is_part(found: Sequence[Entry], of: Sequence[Entry]) -> bool:
    """Return whether `found` is `of` with entries left out."""
    rest = iter(of)
    return all(any(entry == other for other in rest) for entry in found)


def chunks_of(path: Path, data: bytes) -> list[tuple[ChunkSpan, int]]:
    """Write `data` to `path`; return its whole chunks, each with the number of entries in it."""
    path.write_bytes(data)
    with path.open("rb") as file:
        source = FileBytes(file.fileno())
        return [
            (chunk, sum(channel in STREAM_OF for channel, _ in messages_in(read_chunk(source, chunk) or b"")))
            for chunk in walk(source, verify=True).chunks
        ]


def test_cut_anywhere_it_gives_every_complete_chunk_and_says_that_it_was_cut(whole: bytes, path: Path) -> None:
    """Inside the head, a record's length, a chunk, an index, the summary, the last magic; and at every border."""
    chunks = chunks_of(path, whole)
    assert len(chunks) >= 5
    borders = {chunk.end + step for chunk, _ in chunks for step in (-1, 0, 1)}
    for length in sorted({*range(0, len(whole), 5), *borders}):
        path.write_bytes(whole[:length])
        complete = sum(entries for chunk, entries in chunks if chunk.end <= length)
        if not complete:
            with pytest.raises((EmptyArchive, NotAnArchive)):
                open_archive(path)
            continue
        session = open_archive(path)
        found = content(session)
        assert session.problems, f"cut at {length}"
        assert sum(len(entries) for entries in found.values()) == complete, f"cut at {length}"
        assert all(is_part(found[stream], FOUND[stream]) for stream in found)


@settings(max_examples=400)
@given(data=st.data())
def test_a_flipped_bit_costs_at_most_its_chunk_and_never_changes_an_entry(
    whole: bytes, path: Path, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    costs = sum(entries for chunk, entries in chunks_of(path, whole) if chunk.start <= at < chunk.end)
    damaged = bytearray(whole)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    session = open_archive(path)
    found = content(session)
    assert all(is_part(found[stream], FOUND[stream]) for stream in found)
    lost = sum(len(FOUND[stream]) - len(found[stream]) for stream in found)
    assert lost in (0, costs)
    assert lost == 0 or session.problems


def test_a_damaged_stretch_is_passed_over(whole: bytes, path: Path) -> None:
    """As after a bad sector: what lies before and behind it is there."""
    chunks = chunks_of(path, whole)
    for seed in range(200):
        chance = Random(seed)
        broken = chance.randrange(len(chunks) - 1)
        chunk, entries = chunks[broken]
        start = chance.randrange(chunk.start, chunk.end)
        stop = chance.randrange(start + 1, chunks[broken + 1][0].start + 1)
        path.write_bytes(whole[:start] + bytes(byte ^ 0x5A for byte in whole[start:stop]) + whole[stop:])
        session = open_archive(path)
        found = content(session)
        assert all(is_part(found[stream], FOUND[stream]) for stream in found), f"seed {seed}"
        assert sum(len(FOUND[stream]) - len(found[stream]) for stream in found) == entries, f"seed {seed}"
        assert session.problems, f"seed {seed}"


def test_a_damaged_chunk_is_named_and_its_entries_are_counted(whole: bytes, path: Path) -> None:
    chunk, _ = chunks_of(path, whole)[3]
    damaged = bytearray(whole)
    damaged[chunk.data_start + 100] ^= 0xFF
    path.write_bytes(damaged)
    problems = open_archive(path).problems
    assert any(f"chunk at byte {chunk.start} does not match its checksum" in problem for problem in problems)
    assert any(problem.startswith("video:in: ") and "entries are missing, from" in problem for problem in problems)


def test_what_is_no_archive_is_refused_by_name(tmp_path: Path) -> None:
    text, foreign, empty = tmp_path / "a.txt", tmp_path / "foreign.mcap", tmp_path / "empty.mcap"
    text.write_text("hello " * 1000)
    with pytest.raises(NotAnArchive, match=r"a\.txt is not an archive of Mirage"):
        open_archive(text)
    with foreign.open("wb") as sink:
        writer = Writer(sink)
        writer.start()
        channel = writer.register_channel("/x", "json", 0)
        writer.add_message(channel, 1, b"{}", 1)
        writer.finish()  # type: ignore[no-untyped-call]
    with pytest.raises(NotAnArchive, match=r"foreign\.mcap is not an archive of Mirage"):
        open_archive(foreign)
    empty.touch()
    with pytest.raises(EmptyArchive, match="is empty"):
        open_archive(empty)
    with pytest.raises(NotFound, match="No such file"):
        open_archive(tmp_path / "none.mcap")


def test_a_newer_format_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.archive.layout.FORMAT", 2)
    write(tmp_path / "newer.mcap", FOUND)
    monkeypatch.undo()
    with pytest.raises(NewerArchive, match=r"format 2 .* reads 1"):
        open_archive(tmp_path / "newer.mcap")


def test_the_metadata_record_says_when_it_was_changed() -> None:
    about = About(RECORD.sid, RECORD)
    fields = metadata(about).metadata
    assert fields["record_json"] in head(about).decode("utf-8", "replace")
    assert read_metadata(fields) == about
    assert read_metadata(fields | {"sid": "another"}) is None
