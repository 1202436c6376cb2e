"""What was on the bus comes back from the file to the byte; other tools read the file too."""

import json
from pathlib import Path

import pytest
from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.RawAudio_pb2 import RawAudio
from hypothesis import given
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader, SeekingReader, make_reader

from ops.archive.entry_codec import mirror, pack_entry, unpack_entry
from ops.archive.layout import FORMAT
from ops.archive.model import STREAMS
from ops.archive.reader import open_archive
from schemas.bus.base import Entry
from schemas.ids import EntryId
from schemas.media import DATA
from tests.ops.archive.sessions import RECORD, content, short_session, write

ids = st.builds(EntryId, st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1))
names = st.sampled_from([b"e", b"h", b"d", b"o"]) | st.binary(max_size=8)
entries = st.builds(Entry, ids, st.dictionaries(names, st.binary(max_size=200), min_size=1))


@given(st.sampled_from(STREAMS), entries)
def test_any_entry_comes_back_with_its_id_and_fields_in_their_order(stream: str, entry: Entry) -> None:
    back = unpack_entry(stream, pack_entry(stream, entry))
    assert back == entry
    assert list(back.fields.items()) == list(entry.fields.items())


@given(entries)
def test_whatever_an_event_is_its_mirror_is_json_that_names_the_entry(entry: Entry) -> None:
    assert json.loads(mirror(entry))["id"] == str(entry.id)


sessions = st.fixed_dictionaries(
    {stream: st.lists(entries, max_size=6, unique_by=lambda entry: entry.id).map(sorted) for stream in STREAMS}
)


@given(sessions.filter(lambda found: any(found.values())), st.sampled_from([1, 300, 200_000]))
def test_any_session_comes_back_whole(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, list[Entry]], chunk_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("archive") / "made-up.mcap"
    write(path, found, chunk_bytes=chunk_bytes)
    session = open_archive(path)
    assert content(session) == found
    assert session.problems == ()
    assert (session.sid, session.record) == (RECORD.sid, RECORD)


def test_an_archive_is_private(tmp_path: Path) -> None:
    write(tmp_path / "private.mcap", short_session())
    assert (tmp_path / "private.mcap").stat().st_mode & 0o777 == 0o600


def test_the_librarys_readers_find_the_same_with_the_index_and_without(tmp_path: Path) -> None:
    """A wrong offset or count in the index would lose or misplace messages for every tool but ours."""
    found, path = short_session(), tmp_path / "a.mcap"
    write(path, found, chunk_bytes=8_000)
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert isinstance(reader, SeekingReader)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        assert summary.statistics.message_count == sum(len(entries) for entries in found.values()) + sum(
            len(found[stream]) for stream in ("metrics", "policy", "control")
        )
        assert [item.metadata["format"] for item in reader.iter_metadata()] == [str(FORMAT)]
        sought = [(channel.topic, message.data) for _, channel, message in reader.iter_messages()]
        half = found["video:in"][20].id.ms * 1_000_000
        late = list(reader.iter_messages(topics=["/video/in"], starting_at=half))
        assert [message.log_time // 1_000_000 for _, _, message in late] == [
            entry.id.ms for entry in found["video:in"][20:]
        ]
    with path.open("rb") as file:
        streamed = [
            (channel.topic, message.data)
            for _, channel, message in NonSeekingReader(file, validate_crcs=True).iter_messages()
        ]
    assert sorted(sought) == sorted(streamed)
    assert len(sought) == summary.statistics.message_count


def test_pictures_sound_and_events_open_by_their_schemas(tmp_path: Path) -> None:
    found, path = short_session(), tmp_path / "a.mcap"
    write(path, found)
    with path.open("rb") as file:
        messages = [
            (schema.name if schema else "", channel.topic, message)
            for schema, channel, message in make_reader(file).iter_messages()
        ]
    picture = next(message for _, topic, message in messages if topic == "/video/in")
    image = CompressedImage.FromString(picture.data)
    assert (image.format, image.data) == ("jpeg", found["video:in"][0].fields[DATA])
    assert image.timestamp.ToNanoseconds() == picture.log_time
    sound = next(message for name, _, message in messages if name == "foxglove.RawAudio")
    audio = RawAudio.FromString(sound.data)
    assert (audio.format, audio.sample_rate, audio.number_of_channels) == ("pcm-s16", 16_000, 1)
    event = next(message for _, topic, message in messages if topic == "/metrics/json")
    assert json.loads(event.data)["t"] == "session_started"
