"""A live connection: what is refused while the session lives on, and how connections end."""

import json
from itertools import count
from typing import Any

import jwt
import msgspec
import pytest
from websockets.exceptions import InvalidStatus

from ingress.settings import IngressSettings, RateLimits
from ingress.tokens import CONNECT
from schemas import names
from schemas.events import EVENT, FrameRejected, Playback, RateLimited, metric_events
from schemas.facts import PanicSet, SettingsChanged, control_facts
from schemas.media import unpack
from schemas.names import SessionKeys
from schemas.session_store import SessionStore
from schemas.wire import Close, MediaType
from tests.ingress.client import TRANSPORT_LIMIT, HandClock, Service, echo, jpeg, serve
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TWO_SECONDS = 20
"""Ticks of the ingress under test."""

PLAYBACK = {"type": "playback", "audio_us": 1, "video_us": 2, "buffered_us": 3, "underruns": 0, "e2e_us": 4}
SHAPES: list[tuple[Any, str]] = [
    (b"", "codec"),
    (b"\xc1", "codec"),
    (msgspec.msgpack.encode([9, 0, 0, b"x"]), "codec"),
    (msgspec.msgpack.encode([1, 0, -1, b"x"]), "codec"),
    (msgspec.msgpack.encode([1, 0, 0, "x"]), "codec"),
    (msgspec.msgpack.encode([1, 0, 0, b"not a jpeg"]), "bad_frame"),
    (msgspec.msgpack.encode([1, 0, 0, jpeg()[:-50]]), "bad_frame"),
    (msgspec.msgpack.encode([2, 0, 0, b"odd"]), "bad_sound"),
    (msgspec.msgpack.encode([2, 0, 0, b""]), "bad_sound"),
    (msgspec.msgpack.encode([2, 0, 0, bytes(64_002)]), "bad_sound"),
    ("", "bad_message"),
    ("[]", "bad_message"),
    ("{", "bad_message"),
    ('{"type": "dance"}', "bad_message"),
    ('{"type": "panic"}', "bad_message"),
    ('{"type": "panic", "on": 1}', "bad_message"),
    ('{"type": "settings", "max_faces": 2}', "bad_message"),
    ('{"type": "settings", "fidelity": 1.5}', "bad_message"),
    ('{"type": "playback", "audio_us": 1}', "bad_message"),
    (json.dumps({**PLAYBACK, "audio_us": (1 << 53) + 1}), "bad_message"),
    (json.dumps({**PLAYBACK, "video_us": -(1 << 63)}), "bad_message"),
    (json.dumps({**PLAYBACK, "underruns": (1 << 64) - 1}), "bad_message"),
    ('{"x":' + "[" * 8000, "bad_message"),
    ('{"type": "settings", "face": "none"}', "not_found"),
    ('{"type": "refresh", "token": "x"}', "unauthenticated"),
    ('{"type": "refresh", "token": "' + "x" * 9000 + '"}', "too_large"),
]


async def facts(service: Service, sid: str) -> list[Any]:
    """Return the facts of a session."""
    entries = await service.planes.events.entries(SessionKeys(sid).control)
    return [control_facts.decode(entry.fields[EVENT]) for entry in entries]


async def events(service: Service, sid: str, kind: type) -> list[Any]:
    """Return the metric events of one type."""
    entries = await service.planes.events.entries(SessionKeys(sid).metrics)
    found = [metric_events.decode(entry.fields[EVENT]) for entry in entries]
    return [event for event in found if isinstance(event, kind)]


async def test_wrong_input_is_answered_and_the_session_lives_on(service: Service) -> None:
    """Every wrong shape gets its own typed error, in order; a good frame after them still goes through."""
    sid, token = await service.session()
    async with echo(service.planes, sid):
        socket = await service.open(sid, token)
        for message, _ in SHAPES:
            await socket.raw.send(message)
        await socket.until(lambda: len(socket.errors()) >= len(SHAPES), what="errors")
        assert socket.errors() == [code for _, code in SHAPES]
        assert all(error["detail"] for error in socket.told("error"))
        await socket.frame(0, seq=5)
        await socket.until(socket.pictures, what="the good frame")
    rejected = await events(service, sid, FrameRejected)
    assert [event.reason for event in rejected] == [code for message, code in SHAPES if isinstance(message, bytes)]
    assert [event.seq for event in rejected] == list(range(len(rejected)))


async def test_a_frame_before_its_predecessor_is_refused(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await socket.frame(1_000_000)
    await socket.frame(950_000)
    await socket.until(socket.errors, what="error")
    assert socket.errors() == ["bad_pts"]


async def test_media_limit_is_an_error_and_transport_limit_a_close(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)

    def padded(size: int) -> bytes:
        small = jpeg()
        fill = size - len(small)
        pieces = []
        while fill:
            length = min(fill, 60_000)
            length -= 4 if 0 < fill - length < 4 else 0
            pieces.append(b"\xff\xfe" + (length - 2).to_bytes(2, "big") + bytes(length - 4))
            fill -= length
        return small[:2] + b"".join(pieces) + small[2:]

    limit = service.settings.max_frame_bytes
    await socket.frame(0, data=padded(limit))
    await socket.frame(50_000, data=padded(limit + 1))
    await socket.frame(100_000, data=padded(limit + 1000))
    await socket.until(lambda: len(socket.errors()) == 2, what="errors")
    assert socket.errors() == ["too_large", "too_large"]
    assert len(await service.inputs(sid, MediaType.VIDEO)) == 1
    await socket.raw.send(bytes(TRANSPORT_LIMIT + 1))
    assert await socket.closed() == Close.TRANSPORT_LIMIT


ALL = ["publish:video", "publish:audio", "subscribe", "control"]


@pytest.mark.parametrize("missing", ALL)
async def test_each_message_needs_its_scope(service: Service, missing: str) -> None:
    """A token without one scope is refused exactly the messages of that scope, and stays connected."""
    sid, _ = await service.session()
    now = service.clock.now_ms() // 1000
    claims = {"sub": "ada", "iat": now, "exp": now + 60, "until": now + 900, "sid": sid, "jti": f"j{sid}"}
    scope = " ".join(each for each in ALL if each != missing)
    async with echo(service.planes, sid):
        socket = await service.open(sid, service.keys.sign({**claims, "scope": scope}, CONNECT))
        await socket.frame(0)
        await socket.sound(0)
        await socket.say(**PLAYBACK)
        await socket.say(type="panic", on=False)
        await socket.say(type="settings", face="")
        await socket.say(type="dance")  # the last one: whatever was refused before has been answered by then
        await socket.until(lambda: "bad_message" in socket.errors(), what="the last error")
        refused = {"publish:video": 1, "publish:audio": 1, "subscribe": 1, "control": 2}[missing]
        assert socket.errors() == ["scope"] * refused + ["bad_message"]
        wanted = {"publish:video": 1, "publish:audio": 1, "subscribe": 0, "control": 2}[missing]
        await socket.until(lambda: len(socket.media) == wanted, what="outputs")


async def test_a_viewer_may_only_watch(service: Service) -> None:
    sid, token = await service.session()
    publisher = await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    for _ in range(2):
        await viewer.frame(0)
        await viewer.sound(0)
    await viewer.say(type="panic", on=True)
    await viewer.say(**PLAYBACK)
    await viewer.until(lambda: len(viewer.errors()) == 5, what="errors")
    assert set(viewer.errors()) == {"scope"}
    await publisher.frame(0)
    await publisher.until(lambda: publisher.told("status"), what="status")
    assert not viewer.told("status")
    assert not await events(service, sid, Playback)


async def test_nothing_of_the_input_comes_back_without_a_worker(service: Service) -> None:
    """Fail closed: only what stands on the output streams is sent."""
    sid, token = await service.session(face="", voice="")
    publisher = await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    for i in range(10):
        await publisher.frame(i * 50_000, data=jpeg(10))
        await publisher.sound(i * 192_000)
    async with echo(service.planes, sid, data=b"swapped"):
        await viewer.until(lambda: viewer.pictures() and len(viewer.sounds()) == 10, what="outputs")
        await publisher.until(lambda: publisher.pictures() and len(publisher.sounds()) == 10, what="outputs")
    assert {message.data for message in viewer.media + publisher.media} == {b"swapped"}


async def test_the_session_goes_on_after_a_reconnect_with_a_clock_that_begins_again(service: Service) -> None:
    sid, token = await service.session()
    async with echo(service.planes, sid):
        viewer = await service.open(sid, await service.token(sid, "view"))
        first = await service.open(sid, token)
        for i in range(5):
            await first.frame(90_000_000 + i * 50_000, seq=i)
            await first.shown(i + 1)
        await first.raw.close()
        second = await service.open(sid)
        for i in range(5):
            await second.frame(i * 50_000, seq=i)
            await second.shown(i + 1)
        await viewer.until(lambda: len(viewer.pictures()) == 10, what="all frames")
    assert [message.pts_us for message in first.pictures()] == [90_000_000 + i * 50_000 for i in range(5)]
    assert [(message.pts_us, message.seq) for message in second.pictures()] == [(i * 50_000, i) for i in range(5)]
    seen = [message.pts_us for message in viewer.pictures()]
    assert seen == sorted(set(seen))
    entries = await service.inputs(sid, MediaType.VIDEO)
    assert [unpack(entry.id, entry.fields).header.pts_us for entry in entries] == seen


async def test_the_newest_publisher_wins_within_one_ingress_and_across_two(
    service: Service, settings: IngressSettings
) -> None:
    sid, token = await service.session()
    first = await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    second = await service.open(sid)
    assert await first.closed() == Close.REPLACED
    assert first.told("bye")[0]["code"] == Close.REPLACED
    async with serve(service.planes, settings) as other:
        third = await other.open(sid, await service.token(sid))
        assert await second.closed() == Close.REPLACED
        await third.frame(0)

        async def published() -> bool:
            return len(await service.inputs(sid, MediaType.VIDEO)) == 1

        await until(published, what="the newest publisher's frame")
        assert viewer.code is None


async def test_a_slow_reader_harms_nobody(service: Service) -> None:
    """One viewer reads nothing; the other gets every chunk, and what waits for the slow one is bounded."""
    sid, token = await service.session(chunk_ms=96)
    async with echo(service.planes, sid, data=bytes(250_000)):
        publisher = await service.open(sid, token)
        viewer = await service.open(sid, await service.token(sid, "view"))
        slow = await service.dial(sid, await service.token(sid, "view"), max_queue=1)
        for i in range(100):
            await publisher.sound(i * 96_000, seq=i, ms=96)
            await viewer.heard(i + 1)
        assert [message.seq for message in viewer.sounds()] == list(range(100))
        slow.transport.abort()


async def test_panic_stops_everything_at_once_and_lets_nothing_of_it_through_later(service: Service) -> None:
    sid, token = await service.session()
    publisher = await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    keys, media = SessionKeys(sid), service.planes.media
    async with echo(service.planes, sid):
        await publisher.frame(0, seq=1)
        await viewer.until(viewer.pictures, what="a frame before")
    await publisher.say(type="panic", on=True)
    await publisher.frame(50_000, seq=2)  # goes in during panic, and comes out only after it

    async def second_is_in() -> bool:
        return len(await service.inputs(sid, MediaType.VIDEO)) == 2

    await until(second_is_in, what="the second input")
    assert [fact.on for fact in await facts(service, sid) if isinstance(fact, PanicSet)] == [True]
    fresh = await service.open(sid, await service.token(sid, "view"))
    assert fresh.told("ready")[0]["panic"]
    await publisher.say(type="panic", on=False)

    async def off() -> bool:
        return PanicSet(on=False) in await facts(service, sid)

    await until(off, what="the end of panic")
    for entry in (await service.inputs(sid, MediaType.VIDEO))[1:]:
        await media.publish(keys.video_out, entry.id, entry.fields)
    async with echo(service.planes, sid):
        await publisher.frame(100_000, seq=3)
        await viewer.until(lambda: len(viewer.pictures()) == 2, what="a frame after")
        await fresh.until(fresh.pictures, what="a frame after")
    assert [message.seq for message in viewer.pictures()] == [1, 3]
    assert [message.seq for message in fresh.pictures()] == [3]


async def test_panic_ends_behind_what_was_accepted_under_it(service: Service) -> None:
    """All in one burst: frames and sound of the panic still wait to be published when the key is released."""
    sid, token = await service.session(chunk_ms=192)
    async with echo(service.planes, sid):
        socket = await service.open(sid, token)
        await socket.say(type="panic", on=True)
        for i in range(40):
            await socket.frame(i * 10_000, seq=i)
        await socket.sound(0, ms=100, data=b"\x01\x01" * 1600)  # stays in the reframer
        await socket.say(type="panic", on=False)
        await socket.frame(500_000, seq=99)
        for i in range(5):
            await socket.sound(100_000 + i * 192_000, seq=i, data=b"\x02\x02" * 3072)
        await socket.heard(4)  # the first chunk after panic is dropped: a lookahead would have put panic into it
        await socket.until(socket.pictures, what="the frame after panic")
    assert [message.seq for message in socket.pictures()] == [99]
    assert {message.data for message in socket.sounds()} == {b"\x02\x02" * 3072}
    assert [message.seq for message in socket.sounds()] == [1, 2, 3, 4]


async def test_panic_that_is_switched_on_again_at_once_stays_on(service: Service) -> None:
    sid, token = await service.session()
    async with echo(service.planes, sid):
        socket = await service.open(sid, token)
        for on in (True, False, True):
            await socket.say(type="panic", on=on)
        await socket.frame(0, seq=1)
        keys = SessionKeys(sid)

        async def out() -> bool:
            return await service.planes.media.length(keys.video_out) == 1

        await until(out, what="an output that nobody may see")
        assert (await facts(service, sid))[-1] == PanicSet(on=True)
        await socket.say(type="panic", on=False)
        await socket.frame(100_000, seq=2)
        await socket.until(socket.pictures, what="a picture")  # outputs come in order: the other was there before
    assert [message.seq for message in socket.pictures()] == [2]


async def test_deleting_a_session_says_bye(service: Service) -> None:
    sid, token = await service.session()
    publisher = await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    await service.http.delete(f"/v1/sessions/{sid}", headers=service.login())
    for socket in (publisher, viewer):
        assert await socket.closed() == Close.NORMAL
        assert socket.told("bye") == [{"type": "bye", "code": 1000, "reason": "ended by its owner"}]


async def test_an_abandoned_session_closes_with_4410(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await SessionStore(service.planes).end(sid, "abandoned")
    assert await socket.closed() == Close.ABANDONED


async def test_the_fidelity_of_the_enhancer_can_be_changed_live(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await socket.say(type="settings", fidelity=0.25)

    async def told() -> bool:
        return SettingsChanged(fidelity_pm=250) in await facts(service, sid)

    await until(told, what="change")


async def test_revoked_consent_ends_the_sessions_that_wear_it_within_2_s(service: Service) -> None:
    """Both a session created with the identity and one that changed to it; one that took it off goes on."""
    face, other = await service.identity(), await service.identity()
    made = await service.open(*(await service.session(face=face)))
    changed_sid, token = await service.session(face=other)
    changed = await service.open(changed_sid, token)
    left_sid, token = await service.session(face=face)
    left = await service.open(left_sid, token)
    await changed.say(type="settings", face=face)
    await left.say(type="settings", face="")

    async def settled() -> bool:
        put_on, taken_off = SettingsChanged(faces=(face,)), SettingsChanged(faces=())
        return put_on in await facts(service, changed_sid) and taken_off in await facts(service, left_sid)

    await until(settled, what="changes")
    await service.http.delete(f"/v1/identities/{face}", headers=service.login())
    assert await made.closed_within(TWO_SECONDS) == Close.NORMAL
    assert await changed.closed_within(TWO_SECONDS) == Close.NORMAL
    assert made.told("bye")[0]["reason"] == "consent_revoked"
    assert left.code is None
    await left.say(type="settings", face=face)
    await left.until(left.errors, what="refusal")
    assert left.errors() == ["refused"]


async def test_playback_reports_become_events_in_session_time(service: Service) -> None:
    sid, token = await service.session()
    socket = await service.open(sid, token)
    await socket.sound(70_000_000)

    async def published() -> bool:
        return bool(await service.inputs(sid, MediaType.AUDIO))

    await until(published, what="sound")
    await socket.say(**{**PLAYBACK, "audio_us": 70_000_000, "video_us": 69_900_000})

    async def reported() -> bool:
        return bool(await events(service, sid, Playback))

    await until(reported, what="report")
    entry = (await service.inputs(sid, MediaType.AUDIO))[0]
    (report,) = await events(service, sid, Playback)
    assert report.audio_us == unpack(entry.id, entry.fields).header.pts_us
    assert report.audio_us - report.video_us == 100_000


async def test_rates_are_refused_with_when_to_try_again_and_abuse_is_closed(service: Service) -> None:
    rates = RateLimits(video_per_s=5, video_burst=5, violations_per_s=1, violations_burst=20)
    async with serve(service.planes, IngressSettings(rates=rates), clock=HandClock()) as strict:
        sid, token = await strict.session()
        socket = await strict.open(sid, token)
        for i in range(60):
            await socket.frame(i * 1000)
        assert await socket.closed() == Close.RATE
        assert set(socket.errors()) == {"rate_limited"}
        assert 0 < socket.told("error")[0]["retry_after_ms"] <= 1000

        async def noted() -> bool:
            return len(await events(service, sid, RateLimited)) >= 20

        await until(noted, what="events")
        assert (await events(service, sid, RateLimited))[0].scope == "video"


async def test_connecting_again_does_not_fill_the_limits_up(service: Service) -> None:
    rates = RateLimits(video_per_s=1, video_burst=3)
    async with serve(service.planes, IngressSettings(rates=rates), clock=HandClock()) as strict:
        sid, token = await strict.session()
        first = await strict.open(sid, token)
        for i in range(3):
            await first.frame(i * 100_000)

        async def taken() -> bool:
            return len(await strict.inputs(sid, MediaType.VIDEO)) == 3

        await until(taken, what="three frames")
        second = await strict.open(sid, await strict.token(sid))
        await second.frame(400_000)
        await second.until(second.errors, what="refusal")
        assert second.errors() == ["rate_limited"]
        assert await taken()


async def test_sound_much_faster_than_real_time_is_refused(service: Service) -> None:
    rates = RateLimits(audio_speed=2.0, audio_ahead_s=2.0)
    async with serve(service.planes, IngressSettings(rates=rates), clock=HandClock()) as strict:
        sid, token = await strict.session()
        socket = await strict.open(sid, token)
        for i in range(3):
            await socket.sound(i * 1_000_000, ms=1000)
        await socket.until(socket.errors, what="refusal")
        assert "sound" in socket.told("error")[0]["detail"]


async def test_expiry_is_announced_refreshed_in_band_and_enforced(service: Service, settings: IngressSettings) -> None:
    clock = HandClock()
    async with serve(service.planes, settings, clock=clock) as timed:
        sid, _ = await timed.session()

        async def ticket(ttl_s: int) -> str:
            login = timed.login(ttl_s=ttl_s)
            answer = await timed.http.post(f"/v1/sessions/{sid}/connect", json={}, headers=login)
            return str(answer.json()["token"])

        socket = await timed.open(sid, await ticket(100))
        clock.ahead_ms += 71_000
        await socket.until(lambda: socket.told("expiring"), what="warning")
        assert [told["in_s"] for told in socket.told("expiring")] == [29]
        fresh = await ticket(100)
        await socket.say(type="refresh", token=fresh)
        await socket.say(type="refresh", token=fresh)
        await socket.until(socket.errors, what="the second use's refusal")
        assert socket.errors() == ["unauthenticated"]
        clock.ahead_ms += 50_000  # past the first login's end
        await socket.until(lambda: len(socket.told("expiring")) == 1 and len(socket.told("status")) > 12, what="ticks")
        assert socket.code is None
        clock.ahead_ms += 60_000
        assert await socket.closed() == Close.TOKEN


async def test_a_refresh_may_not_widen_or_change_the_right(service: Service) -> None:
    sid, token = await service.session()
    await service.open(sid, token)
    viewer = await service.open(sid, await service.token(sid, "view"))
    await viewer.say(type="refresh", token=await service.token(sid, "publish"))
    await viewer.until(viewer.errors, what="refusal")
    assert viewer.errors() == ["refused"]


async def test_a_subject_denied_mid_session_is_closed_within_2_s(service: Service) -> None:
    sid, token = await service.session(sub="mallory")
    socket = await service.open(sid, token)
    try:
        await service.planes.events.put(names.denied("mallory"), {b"min_iat": b"9999999999"})
        assert await socket.closed_within(TWO_SECONDS) == Close.TOKEN
    finally:
        await service.planes.events.delete([names.denied("mallory")])


async def test_a_login_denied_mid_session_ends_its_connections(service: Service) -> None:
    """Only those of that login: the same person's other logins go on."""
    login = service.login("carol")
    jti = jwt.decode(login["Authorization"].split()[1], options={"verify_signature": False})["jti"]
    sid, other_token = await service.session("carol")
    answer = await service.http.post(f"/v1/sessions/{sid}/connect", json={"role": "view"}, headers=login)
    denied = await service.open(sid, answer.json()["token"])
    other = await service.open(sid, other_token)
    await service.planes.events.put(names.denied(jti), {b"by": b"test"})
    assert await denied.closed() == Close.TOKEN
    assert other.code is None


async def test_traffic_keeps_a_session_alive_and_leaving_starts_the_wait(service: Service) -> None:
    settings = IngressSettings(resume_s=1, tick_s=0.05, touch_s=0.1, sweep_s=0.1)
    async with serve(service.planes, settings) as brief:
        sid, token = await brief.session()
        socket, store = await brief.open(sid, token), SessionStore(service.planes)
        first_ms, frames = (await store.load(sid)).deadline_ms, count()

        async def pushed_on() -> bool:
            n = next(frames)
            await socket.frame(n * 50_000, seq=n)
            return (await store.load(sid)).deadline_ms > first_ms + 200

        await until(pushed_on, what="a later deadline")
        assert socket.code is None
        await socket.raw.close()

        async def ended() -> bool:
            return (await store.load(sid)).ended == "idle"

        await until(ended, what="end after the wait for the publisher, long before that deadline")
        assert await service.planes.events.now_ms() < first_ms


async def test_too_many_connections_to_one_session_are_refused(service: Service) -> None:
    async with serve(service.planes, IngressSettings(max_connections=2)) as small:
        sid, token = await small.session()
        await small.open(sid, token)
        await small.open(sid, await small.token(sid, "view"))
        with pytest.raises(InvalidStatus) as caught:
            await small.dial(sid, await small.token(sid, "view"))
        assert caught.value.response.status_code == 429
        assert json.loads(caught.value.response.body or b"{}")["code"] == "rate_limited"
