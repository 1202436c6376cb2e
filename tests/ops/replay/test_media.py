"""`mirage replay --media`: a real session's outputs come out again, to the byte; what does not is named."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from ops.archive.live import fetch_session
from ops.archive.model import STREAMS
from ops.archive.reader import open_archive
from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from ops.replay.media.run import replay_media, wait_s
from ops.replay.media.verdict import MediaVerdict
from ops.settings import read
from schemas.bus.base import Entry, Planes
from schemas.bus.redis import RedisBus
from schemas.errors import Refused
from schemas.events import EVENT, Outcome, VideoDropped, WorkerTook, metric_events
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import DATA, OUTCOME, pack, unpack
from schemas.message import encode
from schemas.names import identity
from tests.faults.harness import servers
from tests.ops.replay.media_stage import FACE, OTHER_FACE, OTHER_VOICE, VOICE, Recorded, recorded
from tests.ops.replay.stage import Told, archived

EVENTS = ServerOptions("events", durable=True)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder = tmp_path_factory.mktemp("media")
    with servers(folder / "servers") as (media, events), recorded((media.url, events.url), folder) as found:
        yield found


def mirage(session: Recorded, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    argv = [sys.executable, "-m", "ops.cli", *arguments]
    environ = session.environ | settings
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, check=False)


def outputs(session: Recorded, stream: str) -> list[Entry]:
    return list(open_archive(session.path).entries(stream))


async def again(session: Recorded, **replaced: Sequence[Entry]) -> MediaVerdict:
    """Replay the recording, some of its streams replaced or cut."""
    whole = open_archive(session.path)
    found = {stream: list(whole.entries(stream)) for stream in STREAMS}
    found |= {name.replace("_", ":"): list(entries) for name, entries in replaced.items()}
    events = RedisBus(session.events_url)
    try:
        return await replay_media(Told(found, whole.sid, whole.record), read(session.environ), events)
    finally:
        await events.close()


def test_the_recording_holds_what_it_is_meant_to_prove(session: Recorded) -> None:
    """Two owners a medium, two faces and voices, two picture sizes, two chunk lengths, drops, silence."""
    events = [metric_events.decode(entry.fields[EVENT]) for entry in outputs(session, "metrics")]
    took = [event.kind for event in events if isinstance(event, WorkerTook)]
    assert took.count("video") == took.count("voice") == 2
    reasons = {event.reason for event in events if isinstance(event, VideoDropped)}
    assert reasons == {"soft_skip", "invalid"}
    video = [unpack(entry.id, entry.fields).header for entry in outputs(session, "video:out")]
    audio = [unpack(entry.id, entry.fields).header for entry in outputs(session, "audio:out")]
    assert {header.worn for header in video} == {(FACE, OTHER_FACE), (OTHER_FACE, FACE)}
    assert {header.size for header in video} == {512, 384}
    assert {header.worn for header in audio} == {(VOICE,), (OTHER_VOICE,)}
    assert {header.chunk_ms for header in audio} == {192, 96}
    assert {header.voice for header in audio} == {"on", "silent"}


def test_every_output_comes_out_again_to_the_byte(session: Recorded) -> None:
    """From the file alone, with the identities of the running system."""
    done = mirage(session, "replay", str(session.path), "--media", "--speed", "50", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["problems"] == []
    assert told["first_difference"] is None
    for medium in ("video", "audio"):
        count = len(outputs(session, f"{medium}:out"))
        assert told[medium]["compared"] == told[medium]["equal"] == count > 20
        assert (told[medium]["owners"], told[medium]["changes"], told[medium]["exact"]) == (2, 1, True)
    assert told["video"]["dropped"] == len(outputs(session, "video:in")) - len(outputs(session, "video:out")) > 0


async def test_a_session_inside_retention_replays_from_its_streams(session: Recorded) -> None:
    """Without an archive."""
    planes = Planes(RedisBus(session.environ["MIRAGE_REDIS_URL"]), RedisBus(session.events_url))
    kept = await fetch_session(planes, session.sid)
    told = await replay_media(kept, read(session.environ), planes.events)
    await planes.close()
    assert told.exit_code == 0, told.as_json()
    assert [tally.equal for tally in told.tallies] == [
        len(outputs(session, name)) for name in ("video:out", "audio:out")
    ]


def test_inputs_are_due_as_many_times_faster_as_was_asked() -> None:
    first, later = EntryId(1_000, 0), EntryId(3_000, 0)
    assert wait_s(first, first, speed=1, elapsed_s=0) == 0
    assert wait_s(later, first, speed=1, elapsed_s=0.5) == 1.5
    assert wait_s(later, first, speed=4, elapsed_s=0.25) == 0.25
    assert wait_s(later, first, speed=4, elapsed_s=9) == 0, "a replay that cannot keep up does not wait"


async def test_a_replay_without_the_takeover_would_be_another(session: Recorded) -> None:
    """The tracker begins anew with its owner, and pictures show that. A voice that was primed goes on the same."""
    entries = outputs(session, "video:out")
    epochs = [epoch_of(entry) for entry in entries]
    merged = [of_epoch(entry, epochs[0]) for entry in entries]
    told = await again(session, video_out=merged, audio_out=[])
    assert told.exit_code == 3
    assert told.first_difference is not None
    assert told.first_difference.id == entries[epochs.index(epochs[-1])].id
    assert told.tallies[0].owners == 1


@pytest.mark.parametrize(("stream", "figure"), [("video:out", "psnr_db"), ("audio:out", "lsd_db")])
async def test_the_first_output_that_differs_is_named(session: Recorded, stream: str, figure: str) -> None:
    """With its kind, and with how far it is from the recorded one."""
    entries = outputs(session, stream)[:6]
    stranger, other = entries[3], outputs(session, stream)[8]
    entries[3] = Entry(stranger.id, {**stranger.fields, DATA: other.fields[DATA]})
    told = await again(session, **{"video_out": [], "audio_out": [], stream.replace(":", "_"): entries})
    assert told.exit_code == 3
    first = told.as_json()["first_difference"]
    assert (first["id"], first["medium"]) == (str(stranger.id), stream[:5])
    assert (first["kind"], first["bound"]) == ("data", None)
    assert first[figure] is None or first[figure] > 0
    (tally,) = told.tallies
    assert tally.compared - tally.equal == tally.different == 1


async def test_a_stamp_that_differs_is_named(session: Recorded) -> None:
    entries = outputs(session, "audio:out")[:3]
    entry = unpack(entries[1].id, entries[1].fields)
    entries[1] = Entry(entry.id, {**entries[1].fields, **pack(structs.replace(entry.header, pts_us=7), entry.data)})
    first = (await again(session, video_out=[], audio_out=entries)).as_json()["first_difference"]
    assert (first["kind"], first["id"]) == ("header", str(entry.id))
    assert "pts_us was 7" in first["detail"]


async def test_an_input_that_the_recording_lacks_is_a_problem_and_no_verdict(session: Recorded) -> None:
    """What came after it was made from a state that cannot be rebuilt."""
    made = outputs(session, "audio:out")[:5]
    inputs = [entry for entry in outputs(session, "audio:in") if entry.id != made[2].id]
    told = await again(session, video_out=[], audio_in=inputs, audio_out=made)
    assert told.exit_code == 1
    assert str(made[2].id) in told.problems[0]


@pytest.mark.parametrize("withdrawn", [True, False])
async def test_a_face_whose_consent_is_gone_is_not_replayed(session: Recorded, *, withdrawn: bool) -> None:
    """Revoked, or not in the identity store at all."""
    events = RedisBus(session.events_url)
    store = IdentityStore(events)
    if withdrawn:
        await store.add(structs.replace(await store.load(OTHER_FACE), id="gone"), face=None, voice=None)
        await store.revoke("gone")
    else:
        await events.delete([identity("gone")])
    await events.close()
    made = [wearing(entry, "gone") for entry in outputs(session, "video:out")[:3]]
    with pytest.raises(Refused, match="revoked" if withdrawn else "not in the identity store"):
        await again(session, video_out=made, audio_out=[])


async def test_identities_come_from_the_data_directory_where_nothing_runs(session: Recorded, tmp_path: Path) -> None:
    """The command starts that directory's own events server for as long as it needs it."""
    whole = open_archive(session.path)
    found = {stream: list(whole.entries(stream)) for stream in STREAMS} | {"audio:out": []}
    short = archived(
        tmp_path / "short.mcap", Told(found, whole.sid, whole.record), video_out=found["video:out"][:3], metrics=[]
    )
    environ = {name: value for name, value in session.environ.items() if not name.endswith("_URL")}
    alone = replace(session, environ=environ | {"MIRAGE_DATA_DIR": str(tmp_path / "data")})
    there, server = (
        RedisBus(session.events_url),
        EmbeddedServer(find_binary(None), tmp_path / "data" / "events", EVENTS),
    )
    server.start()
    here = RedisBus(server.url)
    for face in (FACE, OTHER_FACE):
        await here.put(identity(face), await there.get(identity(face)))
    for bus in (there, here):
        await bus.close()
    server.stop()
    done = mirage(alone, "replay", str(short), "--media", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["video"]["equal"] == 3
    (tmp_path / "data" / "events" / "appendonlydir").rename(tmp_path / "away")
    done = mirage(alone, "replay", str(short), "--media")
    assert done.returncode == 4, done.stdout + done.stderr
    assert f"identity {FACE}, which is not in the identity store" in done.stderr


def epoch_of(entry: Entry) -> int:
    event = metric_events.decode(entry.fields[OUTCOME])
    assert isinstance(event, Outcome)
    return event.epoch


def of_epoch(entry: Entry, epoch: int) -> Entry:
    """Return an output as if the owner with `epoch` had made it."""
    event = metric_events.decode(entry.fields[OUTCOME])
    assert isinstance(event, Outcome)
    return Entry(entry.id, {**entry.fields, OUTCOME: encode(structs.replace(event, epoch=epoch))})


def wearing(entry: Entry, worn: str) -> Entry:
    """Return an output as if it wore that identity."""
    media = unpack(entry.id, entry.fields)
    return Entry(entry.id, {**entry.fields, **pack(structs.replace(media.header, worn=(worn,)), media.data)})
