"""Whoever needs only events reads only those: with the same certainty as if everything had been read."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.archive.chunk import channels_in
from ops.archive.layout import CHANNELS
from ops.archive.model import EVENT_STREAMS, VIDEO_STREAMS
from ops.archive.reader import open_archive
from ops.archive.walk import FileBytes, walk
from schemas.ids import EntryId
from tests.ops.archive.sessions import short_session, write

FOUND = short_session(frames=12, frame_bytes=60)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "a.mcap", FOUND, chunk_bytes=900, apart=True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("part") / "a.mcap"


def media_place(path: Path) -> int:
    """Return where some byte of a picture lies."""
    with path.open("rb") as file:
        for chunk in walk(FileBytes(file.fileno()), verify=True).chunks:
            if CHANNELS["video:in"] in channels_in(chunk.content):
                return chunk.data_start + 100
    raise AssertionError("no pictures")


def test_media_is_not_read_where_only_events_are_needed(whole: bytes, path: Path) -> None:
    """A damaged picture is not noticed then; it is never given out as a good one; and a full check names it."""
    path.write_bytes(whole)
    damaged = bytearray(whole)
    damaged[media_place(path)] ^= 1
    path.write_bytes(damaged)
    session = open_archive(path, EVENT_STREAMS)
    assert not session.is_checked
    assert session.problems == ()
    assert {stream: list(session.entries(stream)) for stream in EVENT_STREAMS} == {
        stream: FOUND[stream] for stream in EVENT_STREAMS
    }
    for stream in VIDEO_STREAMS:
        assert all(entry in FOUND[stream] for entry in session.entries(stream))
    assert any("does not match its checksum" in problem for problem in open_archive(path).problems)


def test_everything_is_read_where_the_index_is_not_whole(whole: bytes, path: Path) -> None:
    path.write_bytes(whole[:-30])
    session = open_archive(path, EVENT_STREAMS)
    assert session.is_checked
    assert any("index at the end is missing" in problem for problem in session.problems)


@settings(max_examples=400)
@given(data=st.data())
def test_a_flipped_bit_never_changes_an_event_and_is_said_where_it_costs_one(
    whole: bytes, path: Path, data: st.DataObject
) -> None:
    damaged = bytearray(whole)
    damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged)
    session = open_archive(path, EVENT_STREAMS)
    for stream in EVENT_STREAMS:
        found = list(session.entries(stream))
        assert all(entry in FOUND[stream] for entry in found)
        assert found == FOUND[stream] or session.problems
    for stream in VIDEO_STREAMS:
        assert all(entry in FOUND[stream] for entry in session.entries(stream))


@pytest.mark.parametrize("streams", [EVENT_STREAMS, tuple(FOUND)])
@pytest.mark.parametrize("chunk_bytes", [400, 2000])
def test_entries_after_an_id_are_the_rest(tmp_path: Path, streams: tuple[str, ...], chunk_bytes: int) -> None:
    write(tmp_path / "a.mcap", FOUND, chunk_bytes=chunk_bytes, apart=True)
    session = open_archive(tmp_path / "a.mcap", streams)
    for stream, expected in FOUND.items():
        for after in [EntryId(0, 0), *(entry.id for entry in expected), EntryId(1 << 60, 0)]:
            assert list(session.entries(stream, after=after)) == [entry for entry in expected if entry.id > after]
