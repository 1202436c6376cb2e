"""A real recorder beside a live session: killed, frozen, doubled, without disk. The live session never notices."""

import asyncio
import random
import resource
import signal
from pathlib import Path

import pytest

from ops.archive.chunk import channels_in
from ops.archive.layout import CHANNELS
from ops.archive.live import fetch_session
from ops.archive.model import EVENT_STREAMS, MEDIA_STREAMS, STREAMS
from ops.archive.reader import open_archive
from ops.archive.walk import FileBytes, walk
from schemas.bus.base import Planes
from schemas.names import Kind, work
from tests.ops.archive.sessions import content
from tests.ops.archive.studio import Stage, recorder
from tests.waiting import until

pytestmark = pytest.mark.faults

Urls = tuple[str, str]


@pytest.fixture
async def stage(planes: Planes, tmp_path: Path) -> Stage:
    made = Stage(planes, tmp_path)
    await made.create()
    return made


def _libraries(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text("utf-8")


async def assert_whole(stage: Stage) -> None:
    """Check that the file is finished and equals the streams, entry for entry, to the byte."""
    await until(lambda: stage.said("complete"), within_s=20, what="recording complete")
    await until(stage.indexed, within_s=10, what="index written")
    kept, archived = await fetch_session(stage.planes, stage.sid), open_archive(stage.path)
    assert archived.problems == ()
    assert kept.problems == ()
    assert (archived.sid, archived.record) == (kept.sid, kept.record)
    found = content(archived)
    assert found == content(kept)
    for stream in STREAMS:
        ids = [entry.id for entry in found[stream]]
        assert ids == sorted(set(ids)), f"{stream}: once each, in order"
        assert ids, stream


async def test_a_session_is_recorded_from_beginning_to_end(stage: Stage, server_urls: Urls) -> None:
    """And the process that does it loads no engine; pictures and sound keep apart from events."""
    with recorder(server_urls, stage.folder) as process:
        await stage.publish(100)
        await until(lambda: stage.said("on"), within_s=20, what="recording on")
        loaded = _libraries(process.pid)
        assert [name for name in ("onnxruntime", "cv2", "numpy") if name in loaded] == []
        await stage.end()
        await assert_whole(stage)
        media = {CHANNELS[stream] for stream in MEDIA_STREAMS}
        with stage.path.open("rb") as file:
            held = [channels_in(chunk.content) for chunk in walk(FileBytes(file.fileno()), verify=True).chunks]
        assert all(found <= media or found.isdisjoint(media) for found in held)
        assert open_archive(stage.path).is_checked
        events = open_archive(stage.path, EVENT_STREAMS)
        assert not events.is_checked
        assert list(events.entries("metrics")) == await stage.planes.events.entries(stage.keys.metrics)
        assert stage.path.stat().st_mode & 0o777 == 0o600


async def test_kills_at_random_points_lose_double_and_reorder_nothing(stage: Stage, server_urls: Urls) -> None:
    chance = random.Random(7)
    publishing = asyncio.create_task(stage.publish(100_000))
    for _ in range(6):
        with recorder(server_urls, stage.folder) as process:
            size, growth = stage.size, chance.randrange(400_000)
            await until(lambda: stage.grown(size + growth), within_s=20, what="the archive grows")  # noqa: B023
            process.kill()
    stage.stopped = True
    await publishing
    with recorder(server_urls, stage.folder):
        await stage.end()
        await assert_whole(stage)


async def test_a_tail_torn_in_the_middle_of_a_chunk_is_cut_and_written_again(stage: Stage, server_urls: Urls) -> None:
    with recorder(server_urls, stage.folder):
        await stage.publish(100)
        await until(lambda: stage.grown(500_000), within_s=20, what="the archive grows")
    with stage.path.open("r+b") as file:
        file.truncate(stage.size - 40_000)
        file.seek(0, 2)
        file.write(bytes(20_000))  # as a file system may leave it after a crash
    with recorder(server_urls, stage.folder):
        await stage.publish(50)
        await stage.end()
        await assert_whole(stage)


async def test_a_recorder_that_is_stopped_hands_over(stage: Stage, server_urls: Urls) -> None:
    long_lease = {"MIRAGE_LEASE_MS": "60000"}
    with recorder(server_urls, stage.folder, **long_lease) as first:
        await stage.publish(60)
        await until(lambda: stage.grown(200_000), within_s=20, what="the archive grows")
        with recorder(server_urls, stage.folder, **long_lease):
            publishing = asyncio.create_task(stage.publish(200))
            first.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(first.wait, 15) == 0
            size = stage.size
            await until(
                lambda: stage.grown(size + 100_000), within_s=20, what="the other goes on before the lease is out"
            )
            await publishing
            await stage.end()
            await assert_whole(stage)


async def test_two_recorders_never_write_one_file(stage: Stage, server_urls: Urls) -> None:
    """A frozen one still holds the file; the one that took the session over says so, and waits for it."""
    with recorder(server_urls, stage.folder) as first:
        await stage.publish(60)
        await until(lambda: stage.grown(100_000), within_s=20, what="the archive grows")
        with recorder(server_urls, stage.folder):
            first.send_signal(signal.SIGSTOP)
            await until(lambda: stage.said("degraded"), within_s=20, what="the second cannot write")
            assert "being written by another process" in (await stage.statuses())[-1].detail
            await stage.publish(60)
            first.send_signal(signal.SIGCONT)
            await until(lambda: stage.said("on"), within_s=20, what="the first let go")
            await stage.publish(60)
            await stage.end()
            await assert_whole(stage)


async def test_a_recorder_that_slept_past_retention_says_how_many_entries_it_missed(
    stage: Stage, server_urls: Urls
) -> None:
    stage.keep_ms = 500
    with recorder(server_urls, stage.folder) as process:
        await until(lambda: stage.said("on"), within_s=20, what="recording on")
        await stage.publish(100)
        process.send_signal(signal.SIGSTOP)
        await stage.publish(300)
        process.send_signal(signal.SIGCONT)
        await until(lambda: _missed(stage), within_s=20, what="missing entries reported")
        await stage.publish(100)
        await stage.end()
        await until(lambda: stage.said("complete"), within_s=20, what="recording complete")
        await until(stage.indexed, within_s=10, what="index written")
    statuses = await stage.statuses()
    assert "behind" in [status.state for status in statuses]
    archived = open_archive(stage.path)
    missed = stage.media_entries - sum(len(list(archived.entries(stream))) for stream in MEDIA_STREAMS)
    assert missed > 100
    assert statuses[-1].missed == missed
    assert sum(int(problem.split()[1]) for problem in archived.problems) == missed
    assert all("entries are missing, from" in problem for problem in archived.problems)


async def _missed(stage: Stage) -> bool:
    return any(status.state == "behind" and status.missed for status in await stage.statuses())


async def test_a_full_disk_stops_the_recording_and_nothing_else(stage: Stage, server_urls: Urls) -> None:
    """It goes on when there is room again, with everything that is still kept; its memory has not grown meanwhile."""
    stage.frame_bytes = 40_000
    with recorder(server_urls, stage.folder) as process:
        await stage.publish(50)
        await until(lambda: stage.grown(1_000_000), within_s=20, what="the archive grows")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (6_000_000, resource.RLIM_INFINITY))
        await stage.publish(100)
        await until(lambda: stage.said("degraded"), within_s=20, what="degraded")
        assert "File too large" in (await stage.statuses())[-1].detail
        before = _resident(process.pid)
        await stage.publish(400)
        assert stage.size <= 6_000_000
        assert _resident(process.pid) - before < 12_000_000, "32 MB were published"
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await until(lambda: stage.said("on"), within_s=20, what="recording again")
        await stage.end()
        await assert_whole(stage)


async def test_a_session_that_ends_on_a_full_disk_is_let_go_with_what_was_written(
    stage: Stage, server_urls: Urls
) -> None:
    """It does not go round from recorder to recorder; its events are still kept, and export can have them."""
    with recorder(server_urls, stage.folder) as process:
        await stage.publish(100)
        await until(lambda: stage.grown(200_000), within_s=20, what="the archive grows")
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (stage.size, resource.RLIM_INFINITY))
        await stage.publish(100)
        await until(lambda: stage.said("degraded"), within_s=20, what="degraded")
        await stage.end()
        await until(lambda: _nobody_asked(stage), within_s=30, what="the session is retired")
    archived = open_archive(stage.path)
    assert any("the index at the end is missing" in problem for problem in archived.problems)
    assert len(list(archived.entries("video:in"))) >= 20
    assert [status.state for status in await stage.statuses()][-1] == "degraded"
    assert "complete" not in [status.state for status in await stage.statuses()]


async def _nobody_asked(stage: Stage) -> bool:
    waiting = await stage.planes.events.entries(work(Kind.RECORD))
    return all(entry.fields[b"sid"] != stage.sid.encode() for entry in waiting)


def _resident(pid: int) -> int:
    """Return resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]) * resource.getpagesize()


async def test_a_folder_that_cannot_be_made_is_named_and_tried_again(
    planes: Planes, server_urls: Urls, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    stage = Stage(planes, blocked)
    await stage.create()
    with recorder(server_urls, blocked):
        await until(lambda: stage.said("degraded"), within_s=20, what="degraded")
        assert str(blocked) in (await stage.statuses())[-1].detail
        await stage.publish(60)
        blocked.unlink()
        await until(lambda: stage.said("on"), within_s=20, what="recording on")
        await stage.end()
        await assert_whole(stage)


async def test_a_session_that_nobody_recorded_in_time_has_at_least_its_events(stage: Stage, server_urls: Urls) -> None:
    await stage.publish(40)
    await stage.end()
    await stage.planes.media.delete([stage.keys.video_in, stage.keys.video_out])
    with recorder(server_urls, stage.folder):
        await until(lambda: stage.said("complete"), within_s=20, what="recording complete")
        await until(stage.indexed, within_s=10, what="index written")
    archived = open_archive(stage.path)
    assert list(archived.entries("metrics")) == await stage.planes.events.entries(stage.keys.metrics)
    assert [problem.split()[:2] for problem in archived.problems] == [["video:in:", "40"], ["video:out:", "40"]]
    assert (await stage.statuses())[-1].missed == 80
