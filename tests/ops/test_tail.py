"""`mirage tail` as a user runs it: it follows, resumes, ends, and shows what it cannot read."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.tail import STREAMS, Tail, Tailed, parse_start
from schemas.bus.base import Bus, Planes
from schemas.bus.redis import RedisBus
from schemas.decisions import DropVideoUntil
from schemas.errors import BusUnavailable, NotFound
from schemas.events import EVENT, Backlog, RateLimited
from schemas.ids import EntryId
from schemas.message import encode
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord, SessionStore
from tests.faults.harness import servers
from tests.waiting import until

WITHIN_S = 30


async def begin(planes: Planes) -> SessionKeys:
    sid, now_ms = uuid.uuid4().hex, await planes.events.now_ms()
    record = SessionRecord(sid=sid, owner="test", created_ms=now_ms, expires_ms=now_ms + 3_600_000)
    await SessionStore(planes).create(record, deadline_ms=now_ms + 3_600_000)
    return SessionKeys(sid)


async def say(planes: Planes, keys: SessionKeys, *numbers: int) -> list[EntryId]:
    found = []
    for n in numbers:
        event = Backlog(producer="test", seq=n, video=n)
        found.append(await planes.events.append(keys.metrics, {EVENT: encode(event)}))
    return found


def environment(urls: tuple[str, str], folder: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    return clean | {"MIRAGE_REDIS_URL": urls[0], "MIRAGE_EVENTS_URL": urls[1], "MIRAGE_DATA_DIR": str(folder)}


class Running:
    """A `mirage tail` process."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(WITHIN_S):
            return (await self.process.stdout.readline()).decode()

    async def object(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.line())
        return found

    async def ended(self) -> tuple[int, str, str]:
        """Return exit code, the rest of stdout, and stderr."""
        async with asyncio.timeout(WITHIN_S):
            out, err = await self.process.communicate()
        return self.process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def tail(urls: tuple[str, str], folder: Path, *arguments: str) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "ops.cli", "tail", *arguments, stdout=PIPE, stderr=PIPE, env=environment(urls, folder)
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_follows_live_and_ends_with_the_session(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    keys = await begin(planes)
    async with tail(server_urls, tmp_path, keys.sid, "--stream", "metrics", "--json") as running:
        assert (await running.object())["message"]["t"] == "session_started"
        ids = await say(planes, keys, 1, 2)
        told = [await running.object() for _ in ids]
        assert [one["id"] for one in told] == [str(entry_id) for entry_id in ids]
        assert {(one["session"], one["stream"]) for one in told} == {(keys.sid, "metrics")}
        assert [one["message"]["video"] for one in told] == [1, 2]
        await SessionStore(planes).end(keys.sid, "enough")
        assert (await running.object())["message"] == {"t": "session_ended", "v": 1, "reason": "enough"}
        await say(planes, keys, 3)  # outcomes of what was in flight follow the end
        assert (await running.object())["message"]["video"] == 3
        assert await running.ended() == (0, "", "")


async def test_it_resumes_without_loss_or_doubling(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    """Wherever one tail was stopped, the next goes on with exactly the entry after it."""
    keys = await begin(planes)
    ids = [str(entry_id) for entry_id in await say(planes, keys, *range(1200))]
    await SessionStore(planes).end(keys.sid, "enough")
    async with tail(server_urls, tmp_path, keys.sid, "--stream", "metrics", "--json") as running:
        first = [(await running.object())["id"] for _ in range(700)]
        running.process.send_signal(signal.SIGKILL)
    begin_at = first[-1]
    arguments = (keys.sid, "--stream", "metrics", "--from", begin_at, "--json")
    async with tail(server_urls, tmp_path, *arguments) as running:
        code, out, _ = await running.ended()
    rest = [json.loads(line)["id"] for line in out.splitlines()]
    assert code == 0
    assert (first + rest)[1:-1] == ids


async def test_each_of_several_streams_resumes_from_its_own_entry(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    keys = await begin(planes)
    ids = await say(planes, keys, 1, 2)
    decision = DropVideoUntil(cause=str(ids[0]), rule="sync.drop", floor_us=1)
    await planes.events.publish(keys.policy, EntryId(ids[0].ms, ids[0].n * 64), {EVENT: encode(decision)})
    await SessionStore(planes).end(keys.sid, "enough")
    arguments = ("--stream", "metrics", "--stream", "policy", "--from", f"metrics:{ids[0]}", "--from", "policy:0")
    async with tail(server_urls, tmp_path, keys.sid, *arguments, "--json") as running:
        code, out, _ = await running.ended()
    told = [(one["stream"], one["message"]["t"]) for one in map(json.loads, out.splitlines())]
    assert code == 0
    assert sorted(told) == [("metrics", "backlog"), ("metrics", "session_ended"), ("policy", "drop_video_until")]


async def test_it_follows_all_sessions_also_new_ones_until_it_is_interrupted(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    """What sessions said before is left out; a new session is shown from its start."""
    old = await begin(planes)
    await say(planes, old, 1)
    async with tail(server_urls, tmp_path, "--stream", "metrics", "--json") as running:
        seen: list[dict[str, Any]] = []
        n = 100
        while not seen:  # until the process is there and listens
            await say(planes, old, n := n + 1)
            try:
                async with asyncio.timeout(0.2):
                    seen.append(await running.object())
            except TimeoutError:
                continue
        new = await begin(planes)
        while (one := await running.object())["session"] != new.sid:
            seen.append(one)
        assert {seen_one["session"] for seen_one in seen} == {old.sid}
        assert min(seen_one["message"]["video"] for seen_one in seen) > 100
        assert one["message"]["t"] == "session_started"
        running.process.send_signal(signal.SIGINT)
        code, _, err = await running.ended()
        assert (code, err) == (0, "")


async def test_what_cannot_be_read_is_shown_as_such(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    """Also nothing in an entry is obeyed by the terminal."""
    keys = await begin(planes)
    await planes.events.append(keys.metrics, {EVENT: b"\xc1garbage"})
    await planes.events.append(keys.metrics, {b"x": b"y"})
    hostile = RateLimited(producer="p", seq=1, scope="\x1b]0;owned\x07")
    await planes.events.append(keys.metrics, {EVENT: encode(hostile)})
    await SessionStore(planes).end(keys.sid, "enough")
    async with tail(server_urls, tmp_path, keys.sid, "--stream", "metrics", "--json") as running:
        code, out, _ = await running.ended()
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [one["message"] for one in told[1:3]] == [None, None]
    assert told[1]["bytes"] == b"\xc1garbage".hex()
    assert all("not a Mirage message" in one["unreadable"] for one in told[1:3])
    async with tail(server_urls, tmp_path, keys.sid) as running:
        code, out, err = await running.ended()
    assert (code, err) == (0, "")
    assert out.count("unreadable: not a Mirage message") == 2
    assert "\x1b" not in out
    assert "rate_limited" in out


async def test_a_reader_that_goes_away_is_no_fault(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    keys = await begin(planes)
    await say(planes, keys, *range(5000))
    command = f"{sys.executable} -m ops.cli tail {keys.sid} | head -n 2"
    process = await asyncio.create_subprocess_shell(
        command, stdout=PIPE, stderr=PIPE, env=environment(server_urls, tmp_path)
    )
    async with asyncio.timeout(WITHIN_S):
        out, err = await process.communicate()
    assert len(out.splitlines()) == 2
    assert err == b""


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["f" * 31 + "e"], 1, "no session"),
        (["x", "--from", "yesterday"], 2, "<ms>-<n>"),
        (["x", "--stream", "policy", "--from", "metrics:1-0"], 2, "policy"),
        (["x", "--stream", "video"], 2, "metrics"),
    ],
)
def test_what_does_not_fit_is_named(
    server_urls: tuple[str, str], tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    command = [sys.executable, "-m", "ops.cli", "tail", *arguments]
    done = subprocess.run(
        command, env=environment(server_urls, tmp_path), capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == code
    assert named in done.stderr
    assert "Traceback" not in done.stderr


async def test_nothing_is_lost_or_doubled_while_the_server_is_away(tmp_path: Path) -> None:
    """The server dies and comes back with what it had; the reader goes on where it was."""
    away: list[BusUnavailable] = []
    with servers(tmp_path) as (_, server):
        bus: Bus = RedisBus(server.url)
        planes = Planes(bus, bus)
        keys = await begin(planes)
        ids = await say(planes, keys, *range(50))
        source = Tail(planes, ["metrics"], None, away=away.append).one(keys.sid)
        got: list[Tailed] = [await anext(source) for _ in range(20)]
        os.kill(server.pid, signal.SIGKILL)
        pulling = asyncio.ensure_future(collect(source))

        async def noticed() -> bool:
            return bool(away)

        await until(noticed, within_s=WITHIN_S, what="the tail notices that the server is away")
        server.tend()
        ids += await say(planes, keys, *range(50, 60))
        await SessionStore(planes).end(keys.sid, "enough")
        async with asyncio.timeout(WITHIN_S):
            got += await pulling
        await bus.close()
    assert [tailed.entry.id for tailed in got][1:-1] == ids
    assert len(away) == 1


async def test_what_an_ended_session_still_says_extends_the_wait(planes: Planes) -> None:
    """Outcomes that follow each other within a second are all shown, however long they go on together."""
    keys = await begin(planes)
    await SessionStore(planes).end(keys.sid, "enough")
    source = Tail(planes, ["metrics"], None, away=print).one(keys.sid)
    got = [await anext(source), await anext(source)]
    said: list[EntryId] = []
    async with asyncio.timeout(WITHIN_S):
        for n in range(5):
            await asyncio.sleep(0.5)
            said += await say(planes, keys, n)
            got.append(await anext(source))
        got += await collect(source)
    assert [tailed.entry.id for tailed in got[2:]] == said


async def collect(source: AsyncIterator[Tailed]) -> list[Tailed]:
    return [tailed async for tailed in source]


async def test_a_session_that_is_not_there_is_an_error(planes: Planes) -> None:
    with pytest.raises(NotFound):
        await anext(Tail(planes, STREAMS, None, away=print).one(uuid.uuid4().hex))


def test_from_reads_ids_for_all_streams_or_for_one() -> None:
    assert parse_start([], STREAMS) is None
    assert parse_start(["5-1"], STREAMS) == dict.fromkeys(STREAMS, EntryId(5, 1))
    assert parse_start(["5", "policy:7-2"], ("metrics", "policy")) == {
        "metrics": EntryId(5, 0),
        "policy": EntryId(7, 2),
    }
