"""The queue between a client and the media plane, and what panic lets out of it."""

import uuid
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ingress.control import PanicKey
from ingress.egress import Output, Sent, SessionFeed
from ingress.hub import Hub
from ingress.inbound import MAX_WAITING, Inbound
from ingress.peer import Peer
from ingress.settings import IngressSettings
from ingress.tokens import PUBLISHING, Claims, Scope
from schemas import message
from schemas.bus.base import Entry, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.events import EVENT
from schemas.facts import PanicSet
from schemas.ids import EntryId
from schemas.media import MediaHeader, pack
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord
from schemas.wire import MediaMessage, MediaType, encode
from tests.waiting import until


async def test_an_overflow_loses_media_and_keeps_the_end_of_panic() -> None:
    told = list[dict[str, Any]]()
    bus = MemoryBus()
    hub = Hub(Planes(bus, bus), SystemClock(), max_connections=1, on_fatal=lambda: None)
    peer = SimpleNamespace(
        services=SimpleNamespace(settings=IngressSettings(), clock=SystemClock(), hub=hub),
        record=SimpleNamespace(sid="s"),
        claims=Claims(sub="ada", scopes=PUBLISHING | {Scope.CONTROL}, iat=0, exp=1),
        publisher=object(),
        lost=0,
        tell=told.append,
    )
    inbound = Inbound(cast("Peer", peer))
    await inbound.text('{"type": "panic", "on": false}')
    await inbound.text('{"type": "panic", "on": false}')
    for seq in range(MAX_WAITING + 10):
        inbound.binary(encode(MediaMessage(MediaType.AUDIO, seq * 5_000, seq, bytes(160))))
    assert told == []
    end, *media = inbound._waiting
    assert end == PanicKey(on=False)
    assert [each.seq for each in media if isinstance(each, MediaMessage)] == list(range(11, MAX_WAITING + 10))
    assert peer.lost == 11


class _Screen:
    """A listener that keeps what it would show."""

    def __init__(self) -> None:
        self.shown: list[EntryId] = []

    def output(self, output: Output) -> None:
        self.shown.append(output.entry.id)

    def blank(self) -> None:
        self.shown.clear()

    def in_force(self) -> None:
        raise AssertionError("there are no decisions")

    def waiting(self) -> int:
        return 0

    def over(self, reason: str) -> None:
        raise AssertionError(reason)


async def test_an_input_that_was_still_being_written_when_panic_ended_is_not_shown() -> None:
    bus, screen = MemoryBus(), _Screen()
    keys = SessionKeys(uuid.uuid4().hex)
    feed = SessionFeed(
        SessionRecord(sid=keys.sid, owner="", created_ms=0, expires_ms=0), Planes(bus, bus), SystemClock(), pytest.fail
    )
    await feed.start()
    feed.add(screen)
    await feed.hold_panic()
    feed.remember(MediaType.VIDEO, EntryId(7, 0), Sent(0, 0, object()))
    assert await feed.lift_panic()
    for at in (EntryId(7, 0), EntryId(8, 0)):
        await bus.publish(keys.video_out, at, pack(MediaHeader(pts_us=0, sent_us=0), b"x"))

    async def shown() -> bool:
        return bool(screen.shown)

    await until(shown, what="the picture after panic")
    assert screen.shown == [EntryId(8, 0)]
    await feed.stop()


class _Asked(MemoryBus):
    """Counts what is asked of it."""

    largest = ends = 0

    async def entries(self, stream: str, **how: Any) -> list[Entry]:
        """See `Bus.entries`."""
        found = await super().entries(stream, **how)
        self.largest = max(self.largest, len(found))
        return found

    async def last_id(self, stream: str) -> EntryId:
        """See `Bus.last_id`."""
        self.ends += 1
        return await super().last_id(stream)


@pytest.mark.parametrize("toggles", [1, 2_000])
async def test_a_feed_that_begins_after_panic_shows_nothing_of_it_however_often_the_key_was_hit(toggles: int) -> None:
    """What was said before is read in pages, and costs the servers no question for each time."""
    bus, screen = _Asked(), _Screen()
    keys = SessionKeys(uuid.uuid4().hex)
    for _ in range(toggles):
        await bus.append_all(keys.control, [{EVENT: message.encode(PanicSet(on=on))} for on in (True, False)])
    header = pack(MediaHeader(pts_us=0, sent_us=0), b"x")
    await bus.publish(keys.video_in, EntryId(7, 0), header)
    record = SessionRecord(sid=keys.sid, owner="", created_ms=0, expires_ms=0)
    feed = SessionFeed(record, Planes(bus, bus), SystemClock(), pytest.fail)
    await feed.start()
    ends, largest = bus.ends, bus.largest
    feed.add(screen)
    assert not feed.panic
    for at in (EntryId(7, 0), EntryId(8, 0)):
        await bus.publish(keys.video_out, at, header)

    async def shown() -> bool:
        return bool(screen.shown)

    await until(shown, what="a picture from after panic")
    assert screen.shown == [EntryId(8, 0)]
    assert ends <= 5
    assert largest <= 256
    await feed.stop()


@pytest.mark.parametrize("said", [(True,), (False, True), (True, False, True)])
async def test_a_feed_that_begins_under_panic_is_under_it(said: tuple[bool, ...]) -> None:
    bus, keys = MemoryBus(), SessionKeys(uuid.uuid4().hex)
    await bus.append_all(keys.control, [{EVENT: message.encode(PanicSet(on=on))} for on in said])
    record = SessionRecord(sid=keys.sid, owner="", created_ms=0, expires_ms=0)
    feed = SessionFeed(record, Planes(bus, bus), SystemClock(), pytest.fail)
    await feed.start()
    assert feed.panic
    await feed.stop()
