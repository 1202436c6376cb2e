"""Decisions on the session's policy stream take effect at the edge, exactly: cut, rate, stamps, and what is told."""

from itertools import pairwise
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from ingress.settings import IngressSettings, RateLimits
from schemas.bus.base import Planes
from schemas.decisions import (
    Abandon,
    Decision,
    LatencyTargetMissed,
    SetChunk,
    SetVideo,
    SoftSkip,
    VideoOverloaded,
    VoiceFailed,
    VoiceRestored,
)
from schemas.events import EVENT, ArchiveStatus, Backlog, FrameThinned, Report, TokenExpired, metric_events
from schemas.media import MediaEntry, unpack
from schemas.message import Message, encode
from schemas.names import SessionKeys
from schemas.session_store import SessionStore
from schemas.wire import Close, MediaType
from tests.ingress.client import HandClock, Service, Socket, echo, serve
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAUSE = "1-0"
DOWN = SetVideo(cause=CAUSE, rule="video.down", rung=5, quality=55, fps=15, size=512)
LOWEST = SetVideo(cause=CAUSE, rule="sync.degrade", rung=7, quality=55, fps=15, size=256)
UP = SetVideo(cause=CAUSE, rule="video.up", rung=0, quality=85, fps=20, size=512)
VOICE_OFF = VoiceFailed(cause=CAUSE, rule="voice.fail", retry_ms=10_000)
VOICE_BACK = VoiceRestored(cause=CAUSE, rule="voice.retry")


def chunk(chunk_ms: int) -> SetChunk:
    return SetChunk(cause=CAUSE, rule="chunk.rule", chunk_ms=chunk_ms)


async def decide(planes: Planes, sid: str, *decisions: Decision) -> None:
    """Write decisions, as the policy service does."""
    for decision in decisions:
        await planes.events.append(SessionKeys(sid).policy, {EVENT: encode(decision)})


class Told:
    """Whether `more` messages of a type have come since this was made."""

    def __init__(self, socket: Socket, kind: str, more: int) -> None:
        self._socket, self._kind, self._count = socket, kind, len(socket.told(kind)) + more

    def __call__(self) -> bool:
        """Look."""
        return len(self._socket.told(self._kind)) >= self._count


async def ordered(service: Service, sid: str, socket: Socket, *decisions: Decision) -> None:
    """Write decisions and wait until the client was told of every change of parameters."""
    changes = sum(isinstance(decision, SetChunk | SetVideo) for decision in decisions)
    told = Told(socket, "params", changes)
    await decide(service.planes, sid, *decisions)
    await socket.until(told, what="params")


async def inputs(service: Service, sid: str, kind: MediaType, count: int) -> list[MediaEntry]:
    """Return the session's input, once there are `count` entries."""
    found: list[Any] = []

    async def there() -> bool:
        found[:] = await service.inputs(sid, kind)
        return len(found) >= count

    await until(there, what=f"{count} inputs")
    assert len(found) == count
    return [unpack(entry.id, entry.fields) for entry in found]


async def events(service: Service, sid: str, kind: type[Message]) -> list[Any]:
    """Return the metric events of one type."""
    entries = await service.planes.events.entries(SessionKeys(sid).metrics)
    found = [metric_events.decode(entry.fields[EVENT]) for entry in entries]
    return [event for event in found if isinstance(event, kind)]


class Microphone:
    """Sends pieces of 20 ms whose samples count up, so that order and loss show."""

    def __init__(self) -> None:
        self.sent = 0

    def samples(self, count: int) -> bytes:
        """Return the first `count` samples ever sent."""
        return b"".join((i % 65_536).to_bytes(2, "little") for i in range(count))

    async def speak(self, socket: Socket, ms: int) -> None:
        """Send `ms` of sound."""
        for _ in range(ms // 20):
            data = b"".join((i % 65_536).to_bytes(2, "little") for i in range(self.sent, self.sent + 320))
            await socket.sound(self.sent * 125 // 2, seq=self.sent // 320, data=data)
            self.sent += 320


@pytest.mark.parametrize("walk", [(256, 320, 256, 192, 128, 96, 128), (96, 320, 96, 320), (192, 96, 192)])
async def test_chunks_have_the_length_in_force_and_hold_every_sample_once(
    service: Service, walk: tuple[int, ...]
) -> None:
    """Up and down the ladder, one change a time, in mid-speech."""
    sid, token = await service.session(chunk_ms=192)
    socket, microphone = await service.open(sid, token), Microphone()
    lengths: list[int] = []
    for chunk_ms in (192, *walk):
        if lengths:
            await ordered(service, sid, socket, chunk(chunk_ms))
        await microphone.speak(socket, 1_000)
        # What is left over of the stretch before is cut to the new length: whole chunks of all that was sent.
        whole = (microphone.sent // 16 - sum(lengths)) // chunk_ms
        lengths += [chunk_ms] * whole
        await inputs(service, sid, MediaType.AUDIO, len(lengths))
    chunks = await inputs(service, sid, MediaType.AUDIO, len(lengths))
    assert [each.header.chunk_ms for each in chunks] == lengths
    assert [len(each.data) for each in chunks] == [ms * 32 for ms in lengths]
    assert b"".join(each.data for each in chunks) == microphone.samples(sum(lengths) * 16)
    starts = [each.header.pts_us - chunks[0].header.pts_us for each in chunks]
    assert starts == [sum(lengths[:i]) * 1000 for i in range(len(lengths))]
    assert [told["chunk_ms"] for told in socket.told("params")] == list(walk)
    assert {told["reason"] for told in socket.told("params")} == {"chunk.rule"}
    assert not socket.errors()


async def test_several_changes_at_once_leave_the_last_one_in_force(service: Service) -> None:
    sid, token = await service.session(chunk_ms=320)
    socket, microphone = await service.open(sid, token), Microphone()
    await microphone.speak(socket, 300)  # waits in the buffer: longer than three of the chunks to come
    await socket.frame(0)
    await inputs(service, sid, MediaType.VIDEO, 1)  # behind the sound
    await ordered(service, sid, socket, chunk(128), chunk(256), chunk(96), DOWN)
    await microphone.speak(socket, 100)
    chunks = await inputs(service, sid, MediaType.AUDIO, 4)
    assert b"".join(each.data for each in chunks) == microphone.samples(4 * 96 * 16)
    assert {(each.header.chunk_ms, each.header.rung, each.header.fps) for each in chunks} == {(96, 5, 15)}


async def test_every_entry_is_stamped_with_what_was_in_force_when_it_was_accepted(service: Service) -> None:
    sid, token = await service.session(chunk_ms=96)
    socket = await service.open(sid, token)
    for i, decisions in enumerate([(), (DOWN,), (VOICE_OFF, LOWEST), (VOICE_BACK, UP)]):
        await ordered(service, sid, socket, *decisions)
        await socket.frame(i * 100_000)
        await socket.sound(i * 96_000, ms=96)
        await inputs(service, sid, MediaType.VIDEO, i + 1)
        await inputs(service, sid, MediaType.AUDIO, i + 1)
    stamps = [(0, 85, 20, 512, "on"), (5, 55, 15, 512, "on"), (7, 55, 15, 256, "silent"), (0, 85, 20, 512, "on")]
    for kind in MediaType:
        headers = [entry.header for entry in await inputs(service, sid, kind, 4)]
        assert [(h.rung, h.quality, h.fps, h.size, h.voice) for h in headers] == stamps
        assert {h.chunk_ms for h in headers} == {96}
    assert [told["rung"] for told in socket.told("params")] == [5, 7, 0]
    assert socket.told("params")[0] == {
        "type": "params",
        "chunk_ms": 96,
        "quality": 55,
        "fps": 15,
        "size": 512,
        "rung": 5,
        "reason": "video.down",
    }


async def test_a_failed_voice_goes_through_where_the_session_allows_it(service: Service) -> None:
    sid, token = await service.session(chunk_ms=96, on_voice_fail="passthrough")
    await decide(service.planes, sid, VOICE_OFF)
    socket = await service.open(sid, token)
    await socket.sound(0, ms=96)
    (entry,) = await inputs(service, sid, MediaType.AUDIO, 1)
    assert entry.header.voice == "through"
    await socket.until(lambda: any(told["voice"] == "through" for told in socket.told("status")), what="status")


async def test_a_reconnect_and_another_ingress_resume_what_is_in_force(
    service: Service, settings: IngressSettings
) -> None:
    """Also what was decided while nobody was connected."""
    sid, token = await service.session()
    first = await service.open(sid, token)
    await ordered(service, sid, first, chunk(256), DOWN)
    await first.stop()
    await decide(service.planes, sid, VOICE_OFF)
    again = await service.open(sid)
    expected = {"chunk_ms": 256, "quality": 55, "fps": 15, "size": 512, "rung": 5, "reason": "video.down"}
    assert again.told("ready")[0]["params"] == expected
    await again.sound(0, ms=256)
    async with serve(service.planes, settings) as other:
        moved = await other.open(sid, await service.token(sid))
        assert moved.told("ready")[0]["params"] == expected
        await moved.sound(0, ms=256)
        entries = await inputs(service, sid, MediaType.AUDIO, 2)
        await ordered(service, sid, moved, chunk(320))
        assert [told["chunk_ms"] for told in moved.told("params")] == [320]  # what was in force is in `ready`, once
    stamps = {(e.header.chunk_ms, e.header.rung, e.header.voice, len(e.data)) for e in entries}
    assert stamps == {(256, 5, "silent", 256 * 32)}


async def test_an_order_that_cannot_be_obeyed_or_read_changes_nothing(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await decide(service.planes, sid, chunk(0))
    await service.planes.events.append(SessionKeys(sid).policy, {EVENT: b"rubbish"})
    await service.planes.events.append(SessionKeys(sid).policy, {b"other": b""})
    await ordered(service, sid, socket, UP, chunk(96))
    assert [told["chunk_ms"] for told in socket.told("params")] == [192, 96]


async def test_facts_of_the_policy_are_in_the_publishers_status_only(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    missed = LatencyTargetMissed(cause=CAUSE, rule="chunk.latency", e2e_us=312_400, chunk_ms=192)
    overloaded = VideoOverloaded(cause=CAUSE, rule="video.overload", ratio_pm=1_300)
    await decide(service.planes, sid, missed, overloaded, SoftSkip(cause=CAUSE, rule="sync.skip", of=4))
    wanted = {"voice": "on", "latency_missed_ms": 312, "overloaded_pm": 1_300, "soft_skip": 4, "archive": None}
    await socket.until(lambda: any(wanted.items() <= told.items() for told in socket.told("status")), what="status")
    await ordered(service, sid, socket, chunk(256))
    await viewer.until(lambda: viewer.told("params"), what="a viewer's params")
    assert not viewer.told("status")
    assert len(socket.told("params")) == 1


@pytest.mark.parametrize("noise", [0, 2_500])
async def test_the_recordings_state_is_in_the_status_also_when_it_was_said_long_ago(
    service: Service, noise: int
) -> None:
    sid, token = await service.session(record=True)
    metrics = SessionKeys(sid).metrics
    behind = ArchiveStatus(producer="recorder:1", seq=1, state="behind", missed=12)
    filler = {EVENT: encode(Backlog(producer="x", seq=0, outbound=0))}
    await service.planes.events.append(metrics, {EVENT: encode(behind)})
    await service.planes.events.append_all(metrics, [filler] * noise)
    socket = await service.open(sid, token)

    def shown(state: str, missed: int) -> bool:
        return any(told["archive"] == {"state": state, "missed": missed} for told in socket.told("status"))

    await socket.until(lambda: shown("behind", 12), what="what was said before")
    degraded = ArchiveStatus(producer="recorder:1", seq=2, state="degraded", missed=40, detail="disk full")
    await service.planes.events.append(metrics, {EVENT: encode(degraded)})
    await socket.until(lambda: shown("degraded", 40), what="what is said now")


# --- thinning and reports --------------------------------------------------------------------------------------------


async def test_a_client_that_sends_too_much_is_thinned_and_counted(service: Service) -> None:
    """60 frames a second at 20, then at 15: frames that are left out get no ID, and every one of them is reported."""
    settings = IngressSettings(rates=RateLimits(video_burst=1_000), report_s=0.1)
    async with serve(service.planes, settings) as edge:
        sid, token = await edge.session()
        socket, at = await edge.open(sid, token), 0
        counts: list[int] = []
        for decision in (UP, DOWN):
            await ordered(edge, sid, socket, decision)
            for _ in range(4):
                for _ in range(30):  # fewer than may wait for the media plane
                    await socket.frame(at * 1_000_000 // 60, seq=at)
                    at += 1
                await socket.sound(at * 1_000_000 // 60, ms=192)
                await inputs(edge, sid, MediaType.AUDIO, at // 30)  # behind those frames
            counts.append(len(await edge.inputs(sid, MediaType.VIDEO)))
        assert 40 <= counts[0] <= 43
        assert 30 <= counts[1] - counts[0] <= 33
        passed = [entry.header.pts_us for entry in await inputs(edge, sid, MediaType.VIDEO, counts[1])]
        assert min(b - a for a, b in pairwise(passed[5 : counts[0]])) > 40_000

        async def told() -> bool:
            frames: int = sum(event.frames for event in await events(edge, sid, FrameThinned))
            return frames == at - counts[1]

        await until(told, what="reports of all thinned frames")
        assert not socket.errors()
        thinned, reports = await events(edge, sid, FrameThinned), await events(edge, sid, Report)
        assert [event.seq for event in reports] == list(range(len(reports)))
        assert len(thinned) <= sum(isinstance(event, Backlog) for event in reports), "more than one in a period"


async def test_a_client_that_keeps_to_the_rate_loses_nothing(service: Service) -> None:
    sid, token = await service.session()
    async with echo(service.planes, sid):
        socket = await service.open(sid, token)
        for i in range(60):
            await socket.frame(i * 50_000 + (i * 7919) % 20_000, seq=i)
            await socket.shown(i + 1)
    assert [message.seq for message in socket.pictures()] == list(range(60))
    assert not await events(service, sid, FrameThinned)


async def test_frames_that_were_thinned_last_are_reported_when_the_client_leaves(service: Service) -> None:
    async with serve(service.planes, IngressSettings(report_s=3_600)) as edge:
        sid, token = await edge.session()
        async with echo(service.planes, sid):
            socket = await edge.open(sid, token)
            for i in range(20):
                await socket.frame(i * 1_000, seq=i)
            await socket.sound(0, ms=192)
            await socket.heard(1)  # behind all frames
            await socket.stop()

    async def told() -> bool:
        return [event.frames for event in await events(service, sid, FrameThinned)] == [17]

    await until(told, what="the last report")


async def test_the_backlog_of_the_slowest_client_is_reported(service: Service, settings: IngressSettings) -> None:
    """One viewer reads nothing: what waits for it is what the policy sees."""
    quick = IngressSettings(report_s=0.05, tick_s=settings.tick_s, outbox_audio=8)
    async with serve(service.planes, quick) as other:
        sid, token = await other.session(chunk_ms=96)
        async with echo(service.planes, sid, data=bytes(250_000)):
            publisher = await other.open(sid, token)
            slow = await other.dial(sid, await other.token(sid, "view"), max_queue=1)

            async def reported() -> bool:
                return bool(await events(service, sid, Backlog))

            await until(reported, what="a report")
            assert {event.outbound for event in await events(service, sid, Backlog)} <= {0, 1}
            for i in range(100):
                await publisher.sound(i * 96_000, seq=i, ms=96)
                await publisher.heard(i + 1)

            async def seen() -> bool:
                return any(event.outbound >= 8 for event in await events(service, sid, Backlog))

            await until(seen, what="the slow viewer's backlog")
            slow.transport.abort()


async def test_a_publishers_token_that_runs_out_is_an_event_and_a_viewers_is_none(
    service: Service, settings: IngressSettings
) -> None:
    clock = HandClock()
    async with serve(service.planes, settings, clock=clock) as timed:
        sid, token = await timed.session()
        publisher = await timed.open(sid, token)
        viewer = await timed.open(sid, await timed.token(sid, "view"))
        clock.ahead_ms += 3_700_000
        assert await publisher.closed() == Close.TOKEN
        assert await viewer.closed() == Close.TOKEN

        async def told() -> bool:
            return len(await events(service, sid, TokenExpired)) == 1

        await until(told, what="the event")


# --- the end ---------------------------------------------------------------------------------------------------------


async def refused(service: Service, sid: str, token: str) -> str:
    """Return the detail with which a connection to an abandoned session is refused."""
    with pytest.raises(InvalidStatus) as caught:
        await service.dial(sid, token)
    assert caught.value.response.status_code == 404
    body = caught.value.response.body or b""
    assert b'"abandoned"' in body
    return body.decode()


async def test_an_abandoned_session_is_over_for_good(service: Service, settings: IngressSettings) -> None:
    """Its connections close with 4410, on every ingress; nobody gets back in."""
    sid, token = await service.session()
    spare = await service.token(sid)
    publisher = await service.open(sid, token)
    async with serve(service.planes, settings) as other:
        viewer = await other.open(sid, await service.token(sid, "view"))
        await decide(service.planes, sid, Abandon(cause=CAUSE, rule="health.invalid", reason="too many invalid frames"))
        await SessionStore(service.planes).end(sid, "abandoned")
        for socket in (publisher, viewer):
            assert await socket.closed() == Close.ABANDONED
            assert socket.told("bye") == [{"type": "bye", "code": 4410, "reason": "abandoned"}]
        assert "has ended: abandoned" in await refused(other, sid, spare)
    answer = await service.http.post(f"/v1/sessions/{sid}/connect", json={}, headers=service.login())
    assert (answer.status_code, answer.json()["code"]) == (404, "abandoned")
    assert (await service.http.get(f"/v1/sessions/{sid}", headers=service.login())).json()["reason"] == "abandoned"


async def test_the_decision_alone_keeps_a_session_closed(service: Service) -> None:
    """Between the decision and the end of the session the policy service may die."""
    sid, token = await service.session()
    spare = await service.token(sid)
    publisher = await service.open(sid, token)
    await decide(service.planes, sid, Abandon(cause=CAUSE, rule="health.invalid", reason="too many invalid frames"))
    assert await publisher.closed() == Close.ABANDONED
    assert "has ended: abandoned" in await refused(service, sid, spare)


async def test_other_ends_keep_their_code(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await SessionStore(service.planes).end(sid, "abandonment of hope")
    assert await socket.closed() == Close.NORMAL
