"""Whom a session wears: one identity for every face, or one for each; each with its own consent."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from ingress.settings import IngressSettings
from ingress.wearing import followed
from schemas.errors import InputRejected
from schemas.events import EVENT
from schemas.facts import SettingsChanged, control_facts
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord, SessionStore
from schemas.wire import Close
from tests.ingress.client import CONSENT, Service, Socket, serve
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TWO_SECONDS = 20
"""Ticks of a connection to the service of these tests."""
RECORDED = ["face", "voice", "live", "record"]


@pytest.mark.parametrize(
    ("face", "faces", "most", "worn"),
    [
        (None, None, 3, None),
        ("a", None, 1, ("a",)),
        ("a", None, 3, ("a", "a", "a")),
        ("", None, 3, ()),
        (None, [], 3, ()),
        (None, ["a", "b"], 2, ("a", "b")),
        (None, ["b", "a"], 3, ("b", "a")),
        (None, ["a", "a"], 2, ("a", "a")),
    ],
)
async def test_one_face_is_for_everybody_and_several_are_for_one_each(
    face: str | None, faces: list[str] | None, most: int, worn: tuple[str, ...] | None
) -> None:
    assert followed(face, faces, max_faces=most) == worn


@pytest.mark.parametrize(
    ("face", "faces", "says"),
    [
        ("a", ["a"], "one of the two"),
        ("", [], "one of the two"),
        (None, ["a", ""], "empty ID"),
        (None, ["a", "b", "c"], "faces names 3 identities; this session follows 2"),
    ],
)
async def test_faces_that_cannot_be_worn_so_are_refused_by_name(face: str | None, faces: list[str], says: str) -> None:
    with pytest.raises(InputRejected, match=says) as refusal:
        followed(face, faces, max_faces=2)
    assert refusal.value.code == "invalid"


async def create(service: Service, **wish: Any) -> httpx.Response:
    return await service.http.post("/v1/sessions", json=wish, headers=service.login())


async def stored(service: Service, sid: str) -> SessionRecord:
    return (await SessionStore(service.planes).load(sid)).record


async def changes(service: Service, sid: str) -> list[SettingsChanged]:
    entries = await service.planes.events.entries(SessionKeys(sid).control)
    found = [control_facts.decode(entry.fields[EVENT]) for entry in entries]
    return [fact for fact in found if isinstance(fact, SettingsChanged)]


async def until_changed(service: Service, sid: str, *faces: tuple[str, ...]) -> None:
    async def reached() -> bool:
        return await changes(service, sid) == [SettingsChanged(faces=each) for each in faces]

    await until(reached, what=f"changes to {faces}")


async def opened(service: Service, **wish: Any) -> tuple[str, Socket]:
    sid, token = await service.session(**wish)
    return sid, await service.open(sid, token)


# --- at the start ----------------------------------------------------------------------------------------------------


async def test_as_many_faces_are_followed_as_are_named_unless_the_session_says_more(service: Service) -> None:
    one, two = await service.identity(), await service.identity()
    for wish, faces, most in (
        ({"faces": [one, two]}, (one, two), 2),
        ({"faces": [two, one], "max_faces": 3}, (two, one), 3),
        ({"faces": [one, one]}, (one, one), 2),
        ({"face": one, "max_faces": 3}, (one, one, one), 3),
        ({"face": one}, (one,), 1),
        ({"faces": []}, (), 1),
        ({"max_faces": 2}, (), 2),
    ):
        record = await stored(service, (await service.session(**wish))[0])
        assert (record.faces, record.max_faces) == (faces, most), wish


async def test_the_default_of_the_service_holds_where_no_faces_are_named(service: Service) -> None:
    async with serve(service.planes, IngressSettings(default_max_faces=3)) as other:
        one = await other.identity()
        for wish, faces, most in (
            ({"face": one}, (one, one, one), 3),
            ({"faces": []}, (), 3),
            ({"faces": [one]}, (one,), 1),
        ):
            record = await stored(other, (await other.session(**wish))[0])
            assert (record.faces, record.max_faces) == (faces, most), wish


async def test_a_session_tells_its_owner_whom_it_wears(service: Service) -> None:
    one, two = await service.identity(), await service.identity()
    sid, _ = await service.session(faces=[one, two], voice=two)
    told = (await service.http.get(f"/v1/sessions/{sid}", headers=service.login())).json()
    assert (told["faces"], told["voice"], told["max_faces"]) == ([one, two], two, 2)
    assert "face" not in told
    everyone = (await service.http.get("/v1/sessions", headers=service.login())).json()
    assert next(each["faces"] for each in everyone if each["sid"] == sid) == [one, two]


@pytest.mark.parametrize(
    ("wish", "status", "code", "says"),
    [
        ({"face": "a", "faces": ["a"]}, 422, "invalid", "one of the two"),
        ({"face": "", "faces": []}, 422, "invalid", "one of the two"),
        ({"faces": ["a", "b"], "max_faces": 1}, 422, "invalid", "faces names 2 identities; this session follows 1"),
        ({"faces": ["a"] * 9}, 422, "invalid", "9 faces to follow; max_faces is 8 at most"),
        ({"faces": ["a"] * 9, "max_faces": 8}, 422, "invalid", "faces names 9"),
        ({"faces": ["a", ""]}, 422, "invalid", "faces"),
        ({"faces": ["a" * 65]}, 422, "invalid", "faces"),
        ({"faces": "a"}, 422, "invalid", "faces"),
        ({"faces": [None]}, 422, "invalid", "faces"),
    ],
)
async def test_wishes_for_faces_that_make_no_sense_are_refused(
    service: Service, wish: dict[str, Any], status: int, code: str, says: str
) -> None:
    answer = await create(service, **wish)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert says in answer.json()["detail"]


async def test_every_face_needs_to_be_known_and_allowed_or_nothing_is_created(service: Service) -> None:
    """The second is looked at like the first; the answer names it."""
    mine, hers = await service.identity(), await service.identity("eve")
    voice_only = await enrol_voice(service)
    revoked = await service.identity()
    await service.http.delete(f"/v1/identities/{revoked}", headers=service.login())
    for second, status, code in (
        ("none", 404, "not_found"),
        (hers, 403, "refused"),
        (voice_only, 403, "refused"),
        (revoked, 403, "refused"),
    ):
        before = await SessionStore(service.planes).live()
        for faces in ([mine, second], [second, mine]):
            answer = await create(service, faces=faces)
            assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
            assert second in answer.json()["detail"]
        assert set(await SessionStore(service.planes).live()) <= set(before)


async def enrol_voice(service: Service) -> str:
    """Enrol somebody who has no face here; returns the ID."""
    answer = await service.http.post(
        "/v1/identities",
        files={"voice": ("v.wav", b"RIFF")},
        data={"consent": json.dumps(CONSENT)},
        headers=service.login(),
    )
    return str(answer.json()["id"])


async def test_a_recorded_session_needs_every_one_to_have_allowed_it(service: Service) -> None:
    """At its start, and when one of several changes."""
    allowed, also, private = (
        await service.identity(scope=RECORDED),
        await service.identity(scope=RECORDED),
        await service.identity(),
    )
    answer = await create(service, faces=[allowed, private], record=True)
    assert (answer.status_code, answer.json()["code"]) == (403, "refused")
    assert f"{private} does not cover record" in answer.json()["detail"]
    sid, socket = await opened(service, faces=[allowed, also], record=True)
    await socket.say(type="settings", faces=[also, private])
    await socket.until(socket.errors, what="refusal")
    assert socket.errors() == ["refused"]
    assert await changes(service, sid) == []


async def test_a_session_ends_with_the_first_of_its_consents(service: Service) -> None:
    """Whichever face it is, or the voice."""
    now_ms = service.clock.now_ms()
    soon, later, last = [
        await service.identity(expires="", expires_ms=now_ms + hours * 3_600_000) for hours in (1, 2, 3)
    ]
    for wish, hours in (
        ({"faces": [last, later, soon]}, 1),
        ({"faces": [later, last]}, 2),
        ({"faces": [last, later], "voice": soon}, 1),
        ({"face": last, "max_faces": 2}, 3),
    ):
        record = await stored(service, (await service.session(**wish))[0])
        assert record.expires_ms == now_ms + hours * 3_600_000, wish
    nobody = await stored(service, (await service.session(faces=[]))[0])
    assert nobody.expires_ms > now_ms + 10**12


# --- live ------------------------------------------------------------------------------------------------------------


async def test_faces_are_changed_live_for_one_each_or_for_everybody(service: Service) -> None:
    """In the words of the start; what is not named stays."""
    one, two, three = [await service.identity() for _ in range(3)]
    sid, socket = await opened(service, faces=[one, two])
    await socket.say(type="settings", faces=[two, three])
    await socket.say(type="settings", faces=[three])
    await socket.say(type="settings", face=one)
    await socket.say(type="settings", faces=[])
    await until_changed(service, sid, (two, three), (three,), (one, one), ())
    assert socket.errors() == []
    await socket.say(type="settings", voice=two)

    async def said() -> bool:
        return (await changes(service, sid))[-1] == SettingsChanged(voice=two)

    await until(said, what="the voice")


async def test_a_wrong_change_of_faces_is_answered_and_changes_nothing(service: Service) -> None:
    one, hers = await service.identity(), await service.identity("eve")
    sid, socket = await opened(service, faces=[one, one])
    before = await stored(service, sid)
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"face": one, "faces": [one]}, "invalid", "one of the two"),
        ({"faces": [one, one, one]}, "invalid", "faces names 3 identities; this session follows 2"),
        ({"faces": [one, ""]}, "invalid", "empty ID"),
        ({"faces": one}, "bad_message", "faces"),
        ({"faces": [one, 1]}, "bad_message", "faces"),
        ({"faces": [one, "none"]}, "not_found", "none"),
        ({"faces": [one, hers]}, "refused", hers),
        ({"faces": [one], "voice": hers}, "refused", hers),
    ]
    for wish, _, _ in wrong:
        await socket.say(type="settings", **wish)
    await socket.until(lambda: len(socket.errors()) == len(wrong), what="refusals")
    assert socket.errors() == [code for _, code, _ in wrong]
    for error, (_, _, says) in zip(socket.told("error"), wrong, strict=True):
        assert says in error["detail"]
    assert await changes(service, sid) == []
    assert await stored(service, sid) == before


async def test_whoever_joins_may_only_shorten_the_session(service: Service) -> None:
    now_ms = service.clock.now_ms()
    soon, later = [await service.identity(expires="", expires_ms=now_ms + hours * 3_600_000) for hours in (1, 2)]
    sid, socket = await opened(service, faces=[later, later])
    await socket.say(type="settings", faces=[later, soon])
    await until_changed(service, sid, (later, soon))
    assert (await stored(service, sid)).expires_ms == now_ms + 3_600_000
    await socket.say(type="settings", faces=[later])
    await until_changed(service, sid, (later, soon), (later,))
    assert (await stored(service, sid)).expires_ms == now_ms + 3_600_000


async def test_one_revoked_consent_of_several_ends_the_session_within_2_s(service: Service) -> None:
    """The second's as well as one that joined later; who was taken out before ends nothing."""
    one, two = await service.identity(), await service.identity()
    made = (await opened(service, faces=[one, two]))[1]
    joined_sid, joined = await opened(service, faces=[one, one])
    left_sid, left = await opened(service, faces=[one, two])
    await joined.say(type="settings", faces=[one, two])
    await left.say(type="settings", faces=[one])
    await asyncio.gather(
        until_changed(service, joined_sid, (one, two)),
        until_changed(service, left_sid, (one,)),
    )
    answer = await service.http.delete(f"/v1/identities/{two}", headers=service.login())
    assert left_sid not in answer.json()["ended"]
    for socket in (made, joined):
        assert await socket.closed_within(TWO_SECONDS) == Close.NORMAL
        assert socket.told("bye")[0]["reason"] == "consent_revoked"
    assert left.code is None
