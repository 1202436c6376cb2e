"""The client against a whole running system: what it sends is understood, what it is told becomes the right error."""

import asyncio
import os
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.frames import Close

from ops import client as client_module
from ops.client import MirageClient, ReceivedMedia, SessionConnection, Unreachable
from ops.demo.inputs import consent
from ops.demo.live import own_system
from ops.shipped_media import media_file
from ops.supervisor import System, login_code
from schemas import wire
from schemas.bus.redis import RedisBus
from schemas.decisions import SetChunk, SetVideo
from schemas.errors import CodecError, Fenced, InputRejected, MirageError, NotFound, Refused, Throttled
from schemas.events import EVENT
from schemas.message import encode
from schemas.names import SessionKeys

PORTRAIT = media_file("portrait.png")


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """Run a system of our own."""
    with own_system(os.environ) as system:
        due = time.monotonic() + 30
        while not healthy(system.http_url):
            assert time.monotonic() < due, "ingress does not answer"
            time.sleep(0.05)
        yield system


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:  # noqa: S310 - our own http URL
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
async def client(system: System) -> AsyncIterator[MirageClient]:
    """Log a client in."""
    events = RedisBus(system.events_url)
    client = MirageClient(system.http_url)
    await client.login(await login_code(events, "tester"))
    yield client
    await events.close()


async def test_a_wrong_code_is_refused(system: System) -> None:
    with pytest.raises(Refused, match="login code") as caught:
        await MirageClient(system.http_url).login("x" * 24)
    assert caught.value.code == "unauthenticated"


async def test_without_login_nothing_is_created(system: System) -> None:
    with pytest.raises(Refused, match="token"):
        await MirageClient(system.http_url).create_session()


async def test_an_identity_needs_consent(client: MirageClient) -> None:
    with pytest.raises(InputRejected, match="consent") as caught:
        await client.add_identity({}, portrait=PORTRAIT.read_bytes())
    assert caught.value.code == "bad_consent"


async def test_a_picture_without_a_face_is_refused_with_the_reason(client: MirageClient) -> None:
    with pytest.raises(InputRejected, match="neither a JPEG nor a PNG") as caught:
        await client.add_identity(consent("face", "portrait.png"), portrait=b"no picture")
    assert caught.value.code == "enrolment_refused"


async def test_frames_and_sound_go_through_and_come_back(client: MirageClient, jpeg: bytes) -> None:
    """Without identities everything is covered and silenced, and still comes back under the sender's own times."""
    sid = await client.create_session()
    got: dict[str, list[ReceivedMedia]] = {"video": [], "audio": []}
    async with await client.connect(sid, "publish") as publisher, await client.connect(sid, "view") as viewer:
        assert publisher.ready["sid"] == viewer.ready["sid"] == sid
        assert publisher.ready["params"]["chunk_ms"] > 0
        seq = [await publisher.send_video(5_000_000 + k * 50_000, jpeg) for k in range(20)]
        for k in range(40):
            await publisher.send_audio(5_000_000 + k * 20_000, bytes(640))
        async with asyncio.timeout(20):
            async for message in publisher:
                if isinstance(message, ReceivedMedia):
                    got[message.kind].append(message)
                if got["video"] and len(got["audio"]) >= 3:
                    break
    assert got["video"][0].data.startswith(b"\xff\xd8\xff")
    assert got["video"][0].seq in seq
    assert got["video"][0].pts_us == 5_000_000 + got["video"][0].seq * 50_000
    assert {len(chunk.data) % 1024 for chunk in got["audio"]} == {0}
    await client.end_session(sid)


async def test_the_parameters_in_force_are_followed(client: MirageClient, system: System) -> None:
    """From `ready` on, through each change; so does a connection that comes later."""
    events = RedisBus(system.events_url)
    sid = await client.create_session(chunk_ms=128, record=False)
    orders = (
        SetChunk(cause="1-0", rule="audio.grow", chunk_ms=192),
        SetVideo(cause="1-0", rule="video.slow", rung=5, quality=55, fps=15, size=512),
    )
    expected = {"chunk_ms": 192, "quality": 55, "fps": 15, "size": 512, "rung": 5, "reason": "video.slow"}
    async with await client.connect(sid) as publisher:
        assert (publisher.params["chunk_ms"], publisher.params["fps"]) == (128, 20)
        for order in orders:
            await events.append(SessionKeys(sid).policy, {EVENT: encode(order)})
        async with asyncio.timeout(10):
            async for _ in publisher:
                if publisher.params == expected:
                    break
    async with await client.connect(sid) as later:
        assert later.params == expected
    await client.end_session(sid)
    await events.close()


async def test_a_session_that_ends_ends_the_iteration(client: MirageClient) -> None:
    sid = await client.create_session()
    async with await client.connect(sid) as publisher:
        ending = asyncio.create_task(client.end_session(sid))
        notices = await everything(publisher)
        await ending
    assert notices[-1]["type"] == "bye"
    assert notices[-1]["code"] == wire.Close.NORMAL


async def everything(connection: SessionConnection) -> list[Any]:
    """Return all that comes until the end."""
    async with asyncio.timeout(10):
        return [message async for message in connection]


async def test_the_older_publisher_is_told_that_it_was_replaced(client: MirageClient) -> None:
    sid = await client.create_session()
    async with await client.connect(sid) as older, await client.connect(sid):
        with pytest.raises(Fenced, match="another connection"):
            await everything(older)
    await client.end_session(sid)


async def test_a_bad_frame_is_answered_and_the_session_lives_on(client: MirageClient) -> None:
    sid = await client.create_session()
    async with await client.connect(sid) as publisher:
        await publisher.send_video(0, b"no jpeg")
        async with asyncio.timeout(10):
            async for message in publisher:
                if isinstance(message, dict) and message["type"] == "error":
                    assert message["code"] == "bad_frame"
                    break
        await publisher.tell("panic", on=True)
    await client.end_session(sid)


async def test_no_such_session(client: MirageClient) -> None:
    with pytest.raises(NotFound):
        await client.connect("0" * 32)


async def test_nobody_there() -> None:
    with pytest.raises(Unreachable):
        await MirageClient("http://127.0.0.1:9").login("x" * 24)


def test_both_implementations_of_the_wire_agree() -> None:
    """What the server writes the client reads, and the other way round, at the edges of every integer."""
    for pts_us in (0, 127, 128, -1, -33, 65_536, 1 << 32, wire.MAX_PTS_US, -wire.MAX_PTS_US):
        for data in (b"", b"x" * 255, b"x" * 70_000):
            theirs = wire.encode(wire.MediaMessage(wire.MediaType.AUDIO, pts_us, 7, data))
            assert client_module._read(theirs) == ReceivedMedia("audio", pts_us, 7, data)
            ours = msgpack.packb([1, pts_us, 7, data], use_bin_type=True)
            assert wire.decode(ours, max_bytes=1 << 20) == (wire.MediaType.VIDEO, pts_us, 7, data)


@pytest.mark.parametrize("message", [b"", b"\xc1", b"\x94\x03\x00\x00\xc4\x00", b"\x93\x01\x00\x00", "[1]", "{"])
def test_what_is_no_message_is_named(message: str | bytes) -> None:
    with pytest.raises(CodecError):
        client_module._read(message)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Refused), (404, NotFound), (413, InputRejected), (422, InputRejected), (429, Throttled), (500, MirageError)],
)
def test_an_answer_becomes_the_error_that_says_what_to_do(status: int, kind: type[MirageError]) -> None:
    error = client_module._refusal(status, b'{"code": "some_code", "detail": "why", "retry_after_ms": 5}')
    assert type(error) is kind
    assert (error.code, str(error)) == ("some_code", "why")


def test_an_answer_of_somebody_else_is_an_error_too() -> None:
    error = client_module._refusal(502, b"<html>Bad gateway")
    assert (error.code, str(error)) == ("http", "the server answered 502")


def test_a_rate_limit_closes_as_one() -> None:
    closed = ConnectionClosedError(Close(4429, "far too much"), None)
    assert isinstance(client_module._ended(closed), Throttled)


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    from ops.demo.footage import read_video
    from ops.demo.inputs import talking_head

    return read_video(Path(talking_head()), 0.05).jpegs[0]
