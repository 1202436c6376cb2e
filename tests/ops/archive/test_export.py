"""`mirage export`, and sessions from wherever they are."""

import uuid
from pathlib import Path

import pytest

from ops.archive.export import export_archive
from ops.archive.find import find_file
from ops.archive.live import fetch_session
from ops.archive.model import EVENT_STREAMS, STREAMS, EmptyArchive
from ops.archive.reader import open_archive
from schemas.bus.base import Planes
from schemas.consent import ANYONE, Consent, Evidence, Identity
from schemas.errors import Conflict, NotFound
from schemas.events import EVENT
from schemas.facts import SettingsChanged
from schemas.identity_store import IdentityStore
from schemas.message import encode
from tests.ops.archive.sessions import MadeUp, content, short_session, write
from tests.ops.archive.studio import Stage, mirage, report


async def test_a_live_session_is_exported_as_it_stands(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    stage = Stage(planes, tmp_path)
    await stage.create()
    await stage.publish(30)
    out = tmp_path / "out.mcap"
    said = report(mirage(server_urls, tmp_path / "archives", "export", stage.sid, "-o", str(out), "--json"))
    kept, exported = await fetch_session(planes, stage.sid), open_archive(out)
    assert content(exported) == content(kept)
    assert exported.problems == ()
    assert exported.record == kept.record
    assert said["entries"] == {stream: len(entries) for stream, entries in content(kept).items()}
    assert said["problems"] == []
    assert said["bytes"] == out.stat().st_size


async def test_events_only_leaves_media_out_and_misses_nothing(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    stage = Stage(planes, tmp_path)
    await stage.create()
    await stage.publish(10)
    out = tmp_path / "out.mcap"
    report(mirage(server_urls, tmp_path, "export", stage.sid, "-o", str(out), "--events-only", "--json"))
    exported = open_archive(out)
    assert exported.problems == ()
    for stream, entries in content(exported).items():
        assert bool(entries) == (stream in EVENT_STREAMS)


@pytest.mark.parametrize("scope", [("face", "live"), ("face", "live", "record")])
async def test_pictures_of_a_session_that_was_not_recorded_need_a_consent_that_covers_it(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path, scope: tuple[str, ...]
) -> None:
    """Also of a face that was worn only for a while; events alone may always be had."""
    worn = await enrolled(planes, *scope)
    stage = Stage(planes, tmp_path)
    await stage.create()
    await stage.publish(10)
    for faces in ((worn,), ()):
        await planes.events.append(stage.keys.control, {EVENT: encode(SettingsChanged(faces=faces))})
    out, events = tmp_path / "out.mcap", tmp_path / "events.mcap"
    done = mirage(server_urls, tmp_path, "export", stage.sid, "-o", str(out))
    if "record" in scope:
        assert (done.returncode, out.exists()) == (0, True)
        return
    assert (done.returncode, out.exists()) == (4, False)
    assert f"consent for identity {worn} does not cover record" in done.stderr
    assert "--events-only" in done.stderr
    report(mirage(server_urls, tmp_path, "export", stage.sid, "-o", str(events), "--events-only", "--json"))
    assert events.stat().st_mode & 0o777 == 0o600


async def test_a_face_that_0_1_0_wrote_down_must_have_allowed_it(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    private = await enrolled(planes, "face", "live")
    stage = Stage(planes, tmp_path)
    await stage.create()
    await stage.publish(10)
    await planes.events.append(stage.keys.control, {EVENT: encode(SettingsChanged(face=private))})
    done = mirage(server_urls, tmp_path, "export", stage.sid, "-o", str(tmp_path / "out.mcap"))
    assert done.returncode == 4
    assert f"consent for identity {private} does not cover record" in done.stderr


@pytest.mark.parametrize("joined", [False, True])
async def test_each_of_several_faces_must_have_allowed_it(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path, *, joined: bool
) -> None:
    """The second as well as the first, whether it was there from the start or joined."""
    allowed = await enrolled(planes, "face", "live", "record")
    private = await enrolled(planes, "face", "live")
    stage = Stage(planes, tmp_path, faces=(allowed, allowed) if joined else (allowed, private))
    await stage.create()
    await stage.publish(10)
    if joined:
        changed = SettingsChanged(faces=(allowed, private))
        await planes.events.append(stage.keys.control, {EVENT: encode(changed)})
    out = tmp_path / "out.mcap"
    done = mirage(server_urls, tmp_path, "export", stage.sid, "-o", str(out))
    assert (done.returncode, out.exists()) == (4, False)
    assert f"consent for identity {private} does not cover record" in done.stderr


async def enrolled(planes: Planes, *scope: str) -> str:
    """Enrol a face whose consent covers `scope`; returns its ID."""
    identity = Identity(
        id=uuid.uuid4().hex, label="worn", kinds=("face",), owner="test", created_ms=1,
        consent=Consent(
            subject="somebody", granted_to=ANYONE, scope=scope, purpose="test", expires_ms=1 << 42,
            evidence=Evidence(statement="made up", by="test"),
        ),
    )  # fmt: skip
    await IdentityStore(planes.events).add(identity, face=None, voice=None)
    return identity.id


def test_a_torn_archive_is_repaired(tmp_path: Path, server_urls: tuple[str, str]) -> None:
    found, torn, out = short_session(), tmp_path / "torn.mcap", tmp_path / "out.mcap"
    data = write(torn, found, finish=False, chunk_bytes=8_000)
    torn.write_bytes(data[:-5_000])
    before = content(open_archive(torn))
    done = mirage(server_urls, tmp_path, "export", str(torn), "-o", str(out), "--json")
    assert "the index at the end is missing" in done.stderr
    assert report(done)["problems"]
    repaired = open_archive(out)
    assert content(repaired) == before
    assert not any(problem.startswith("the index") for problem in repaired.problems)
    assert any(problem.startswith("copied without: ") for problem in repaired.problems), "what is gone stays gone"
    assert out.stat().st_mode & 0o777 == 0o600


def test_mistakes_are_named(tmp_path: Path, server_urls: tuple[str, str]) -> None:
    (tmp_path / "there.mcap").write_text("dear diary")
    write(tmp_path / "a.mcap", short_session(frames=2))
    for arguments, code, words in [
        (("none", "-o", "x.mcap"), 1, "no session none"),
        (("none", "-o", "x.mcap"), 1, f"none is not recorded in {tmp_path}"),
        (("no/such.mcap", "-o", "x.mcap"), 1, "no file 'no/such.mcap'"),
        ((str(tmp_path / "there.mcap"), "-o", "x.mcap"), 1, "is not an archive of Mirage"),
        ((str(tmp_path / "a.mcap"), "-o", str(tmp_path / "there.mcap")), 1, "is there already"),
        ((str(tmp_path / "a.mcap"), "-o", "/proc/none/x.mcap"), 2, "cannot be written"),
    ]:
        done = mirage(server_urls, tmp_path, "export", *arguments)
        assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert (tmp_path / "there.mcap").read_text() == "dear diary"


def test_an_export_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(EmptyArchive, match="no entry in metrics, policy, control"):
        export_archive(MadeUp({"video:in": short_session()["video:in"]}), tmp_path / "out.mcap", EVENT_STREAMS)
    assert list(tmp_path.iterdir()) == []
    export_archive(MadeUp(short_session()), tmp_path / "out.mcap", STREAMS)
    with pytest.raises(Conflict):
        export_archive(MadeUp(short_session()), tmp_path / "out.mcap", STREAMS)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mcap"]


def test_a_session_is_found_by_file_or_by_its_archive(tmp_path: Path) -> None:
    write(tmp_path / "abc.mcap", short_session(frames=2))
    assert find_file(str(tmp_path / "abc.mcap"), tmp_path / "other") == tmp_path / "abc.mcap"
    assert find_file("abc", tmp_path) == tmp_path / "abc.mcap"
    assert find_file("abd", tmp_path) is None
    with pytest.raises(NotFound, match="no session ID either"):
        find_file("../abc", tmp_path)


async def test_a_session_that_is_gone_is_named(planes: Planes) -> None:
    with pytest.raises(NotFound, match="no session gone"):
        await fetch_session(planes, "gone")


async def test_what_retention_took_is_counted(planes: Planes, tmp_path: Path) -> None:
    stage = Stage(planes, tmp_path)
    await stage.create()
    await stage.publish(20)
    await planes.media.delete([stage.keys.video_out])
    session = await fetch_session(planes, stage.sid)
    assert [problem.split(",")[0] for problem in session.problems] == ["video:out: 20 entries are missing"]
    assert (await fetch_session(planes, stage.sid, EVENT_STREAMS)).problems == ()
