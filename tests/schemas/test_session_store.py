"""A session's life: ended once, by whoever notices, also when the first one to try dies in the middle of it."""

import asyncio
import uuid

import pytest
from msgspec import structs

from schemas.bus.base import Planes
from schemas.errors import BusUnavailable, NotFound
from schemas.events import EVENT, ConsentRevoked, SessionEnded
from schemas.facts import SettingsChanged, control_facts
from schemas.message import encode
from schemas.names import SessionKeys
from schemas.policy_config import PolicyConfig
from schemas.session_store import Session, SessionRecord, SessionStore
from tests.faults.harness import failing
from tests.waiting import until

AWAY = BusUnavailable("the server died")


def record(*faces: str, voice: str = "", expires_ms: int = 10_000) -> SessionRecord:
    return SessionRecord(
        sid=uuid.uuid4().hex,
        owner="o",
        faces=faces,
        voice=voice,
        created_ms=1,
        expires_ms=expires_ms,
        config=PolicyConfig(),
    )


async def created(store: SessionStore, *faces: str, voice: str = "") -> SessionKeys:
    made = record(*faces, voice=voice)
    await store.create(made, deadline_ms=5_000)
    return SessionKeys(made.sid)


async def ends(planes: Planes, stream: str) -> list[str]:
    """Return the reasons of the `SessionEnded` facts on a stream."""
    raw = [entry.fields.get(EVENT, b"") for entry in await planes.events.entries(stream)]
    return [control_facts.decode(data).reason for data in raw if b"session_ended" in data]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("reason", "now_ms", "ended"),
    [
        (None, 4_999, None),
        ("idle", 5_000, None),
        ("consent_expired", 10_000, None),
        ("test over", 0, "test over"),
        ("test over", 20_000, "test over"),
    ],
)
def test_a_session_is_over_when_it_ended_or_ran_out_of_time_or_consent(
    reason: str | None, now_ms: int, ended: str | None
) -> None:
    assert Session(record(), 5_000, ended).over(now_ms) == reason


async def test_everyone_may_end_a_session_and_the_first_reason_stands(planes: Planes) -> None:
    store = SessionStore(planes)
    keys = await created(store)
    ended = await asyncio.gather(*(store.end(keys.sid, f"reason {n}") for n in range(5)))
    assert sum(ended) == 1
    reason = f"reason {ended.index(True)}"
    assert (await store.load(keys.sid)).ended == reason
    assert set(await ends(planes, keys.control)) == {reason}
    assert keys.sid not in await store.live()
    facts = await planes.events.length(keys.control)
    assert not await store.end(keys.sid, "again")
    assert await planes.events.length(keys.control) == facts


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("method", "skip"),
    [("put_once", 0), ("entries", 0), ("append", 0), ("append", 1), ("drop_fields", 0), ("expire", 0)],
)
async def test_a_second_end_finishes_what_a_first_one_did_not_live_to_do(
    planes: Planes, method: str, skip: int, *, done: bool
) -> None:
    """Workers are told once, viewers are told once, the session leaves the list, and its keys expire."""
    whole = SessionStore(planes, media_retention_s=1, event_ttl_s=3600)
    keys = await created(whole)
    await planes.media.put(keys.epoch, {b"video": b"1"})
    dying = Planes(planes.media, failing(planes.events, method, AWAY, skip=skip, done=done))
    with pytest.raises(BusUnavailable):
        await SessionStore(dying).end(keys.sid, "first")
    set_by_first = method != "put_once" or done
    assert await whole.end(keys.sid, "second") != set_by_first
    reason = "first" if set_by_first else "second"
    assert (await whole.load(keys.sid)).ended == reason
    assert await ends(planes, keys.control) == [reason], "the workers follow the control stream"
    # Metrics come first: what died between the two tells them twice, which the policy's fold takes as once.
    assert set(await ends(planes, keys.metrics)) == {reason}
    assert len(await ends(planes, keys.metrics)) == 1 + ((method, skip + done) == ("append", 1))
    assert keys.sid not in await whole.live()


async def test_an_ended_sessions_keys_expire_on_both_planes(planes: Planes) -> None:
    store = SessionStore(planes, media_retention_s=1, event_ttl_s=1)
    keys = await created(store)
    await planes.media.put(keys.epoch, {b"video": b"1"})
    await planes.media.append(keys.video_out, {b"d": b"1"})
    await planes.events.put(keys.epoch, {b"policy": b"1"})
    dying = Planes(planes.media, failing(planes.events, "expire", AWAY))
    with pytest.raises(BusUnavailable):
        await SessionStore(dying, media_retention_s=1, event_ttl_s=1).end(keys.sid, "first")
    await store.end(keys.sid, "second")

    async def gone() -> bool:
        hashes = [await planes.media.get(keys.epoch), await planes.events.get(keys.epoch)]
        streams = [await planes.events.length(name) for name in (keys.metrics, keys.control)]
        return not any(hashes) and not any(streams) and not await planes.media.length(keys.video_out)

    assert not await gone()
    await until(gone, within_s=3, what="keys expired")
    with pytest.raises(NotFound):
        await store.load(keys.sid)


async def test_a_session_wears_what_it_was_created_with_until_that_is_changed(planes: Planes) -> None:
    store = SessionStore(planes)
    keys = await created(store, "f", voice="v")
    assert await store.worn(keys.sid) == {"f", "v"}
    await planes.events.append(keys.control, {EVENT: encode(SettingsChanged(faces=("g",)))})
    assert await store.worn(keys.sid) == {"g", "v"}
    await planes.events.append(keys.control, {EVENT: encode(SettingsChanged(voice=""))})
    assert await store.worn(keys.sid) == {"g"}
    await planes.events.append(keys.control, {EVENT: encode(SettingsChanged(faces=()))})
    assert await store.worn(keys.sid) == set()
    assert await store.worn("no such session") == set()


async def test_a_session_wears_every_one_of_its_faces(planes: Planes) -> None:
    """A change names all of them anew: who is not in it is not worn any more."""
    store = SessionStore(planes)
    keys = await created(store, "f", "g", "f", voice="f")
    assert await store.worn(keys.sid) == {"f", "g"}
    await planes.events.append(keys.control, {EVENT: encode(SettingsChanged(faces=("g", "h")))})
    assert await store.worn(keys.sid) == {"f", "g", "h"}
    await planes.events.append(keys.control, {EVENT: encode(SettingsChanged(voice="v"))})
    assert await store.worn(keys.sid) == {"g", "h", "v"}


async def test_a_session_of_0_1_0_is_found_by_what_it_called_its_face(planes: Planes) -> None:
    """A worker of that build may still swap it, so a revocation must end it."""
    store = SessionStore(planes)
    old = structs.replace(record(), face="f")
    await store.create(old, deadline_ms=5_000)
    assert await store.worn(old.sid) == {"f"}
    await planes.events.append(SessionKeys(old.sid).control, {EVENT: encode(SettingsChanged(face="g"))})
    assert await store.worn(old.sid) == {"g"}


async def test_revoking_one_of_several_faces_ends_the_session(planes: Planes) -> None:
    store = SessionStore(planes)
    second = uuid.uuid4().hex
    first, other = await created(store, "f", second), await created(store, "f", "g")
    assert await store.end_wearing(second) == [first.sid]
    assert (await store.load(other.sid)).ended is None
    await store.end(other.sid, "test over")


@pytest.mark.parametrize("fact", [{EVENT: b"\xff\x00"}, {EVENT: b"\x82\xa1t\xa6future\xa1v\x02"}, {b"other": b"1"}])
async def test_a_revocation_ends_its_sessions_past_facts_that_nobody_here_can_read(
    planes: Planes, fact: dict[bytes, bytes]
) -> None:
    """A newer writer's fact in one session keeps neither it nor the sessions after it from ending."""
    store = SessionStore(planes)
    face = uuid.uuid4().hex
    first, second, other = [await created(store, name) for name in (face, face, "another's")]
    await planes.events.append(first.control, fact)
    assert sorted(await store.end_wearing(face)) == sorted([first.sid, second.sid])
    for keys in (first, second):
        assert (await store.load(keys.sid)).ended == "consent_revoked"
        assert await ends(planes, keys.control) == ["consent_revoked"]
        raw = [entry.fields.get(EVENT, b"") for entry in await planes.events.entries(keys.control)]
        assert encode(ConsentRevoked(identity=face)) in raw
    assert (await store.load(other.sid)).ended is None
    assert await store.end_wearing(face) == []
    await store.end(other.sid, "test over")


async def test_an_unreadable_last_fact_does_not_hide_that_the_session_must_be_told_to_end(planes: Planes) -> None:
    store = SessionStore(planes)
    keys = await created(store)
    await planes.events.append(keys.control, {EVENT: b"\xff"})
    assert await store.end(keys.sid, "over")
    last = (await planes.events.entries(keys.control, newest_first=True, count=1))[0]
    assert control_facts.decode(last.fields[EVENT]) == SessionEnded(reason="over")


async def test_consent_can_only_shorten_a_session(planes: Planes) -> None:
    store = SessionStore(planes)
    keys = await created(store)
    for expires_ms, until_ms in ((20_000, 10_000), (7_000, 7_000), (8_000, 7_000)):
        await store.limit(keys.sid, expires_ms=expires_ms)
        assert (await store.load(keys.sid)).record.expires_ms == until_ms
