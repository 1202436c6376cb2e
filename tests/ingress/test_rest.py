"""REST: who may do what, and what the answers look like when it is refused."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingress.settings import IngressSettings
from schemas import names
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus
from schemas.events import EVENT, SessionStarted, metric_events
from schemas.identity_store import IdentityStore
from schemas.names import SessionKeys
from schemas.policy_config import PolicyConfig
from schemas.session_store import SessionStore
from tests.ingress.client import CONSENT, HandClock, Service, jpeg, new_code, serve
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_login_code_works_once(service: Service) -> None:
    code = new_code()
    await service.planes.events.put(names.login(code), {b"sub": b"ada", b"scope": b"subscribe"})
    answers = await asyncio.gather(*(service.http.post("/v1/login", json={"code": code}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7
    token = next(answer.json()["token"] for answer in answers if answer.status_code == 200)
    me = await service.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert me.json()["scopes"] == ["subscribe"]


async def test_guessing_codes_is_slowed_down(service: Service) -> None:
    async with serve(service.planes, IngressSettings(), clock=HandClock()) as other:
        tries = (other.http.post("/v1/login", json={"code": new_code()}) for _ in range(60))
        answers = await asyncio.gather(*tries)
    assert {answer.status_code for answer in answers} == {401, 429}
    slow = next(answer for answer in answers if answer.status_code == 429)
    assert slow.json()["code"] == "rate_limited"
    assert int(slow.headers["retry-after"]) >= 1


@pytest.mark.parametrize("path", ["/v1/me", "/v1/identities", "/v1/sessions", "/v1/sessions/x"])
@pytest.mark.parametrize("header", [{}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer x"}])
async def test_everything_needs_a_token(service: Service, path: str, header: dict[str, str]) -> None:
    answer = await service.http.get(path, headers=header)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


async def enrol(service: Service, *, sub: str = "ada", **more: Any) -> httpx.Response:
    """Enrol with what is given."""
    request: dict[str, Any] = {
        "files": {"portrait": ("p.jpg", jpeg())},
        "data": {"consent": json.dumps(CONSENT)},
        **more,
    }
    return await service.http.post("/v1/identities", headers=service.login(sub), **request)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"subject": " "}, "subject"),
        ({"purpose": ""}, "purpose"),
        ({"scope": []}, "scope"),
        ({"scope": ["live"]}, "does not cover face"),
        ({"scope": ["face", "everything"]}, "everything"),
        ({"expires": "2001-01-01"}, "past"),
        ({"expires": "soon"}, "2027-01-31"),
        ({"expires": ""}, "expires"),
        ({"expires_ms": 1 << 60}, "consent"),
        ({"evidence": {"statement": "", "by": "me"}}, "evidence"),
        ({"evidence": None}, "evidence"),
        ({"surprise": 1}, "surprise"),
    ],
)
async def test_consent_that_says_too_little_is_refused(service: Service, change: dict[str, Any], says: str) -> None:
    answer = await enrol(service, data={"consent": json.dumps({**CONSENT, **change})})
    assert answer.status_code == 422, answer.text
    assert answer.json()["code"] == "bad_consent"
    assert says in answer.json()["detail"]


async def test_an_identity_needs_a_file_consent_and_the_scope(service: Service) -> None:
    assert "consent" in (await enrol(service, data={})).json()["detail"]
    nothing = await service.http.post(
        "/v1/identities", files={"consent": (None, json.dumps(CONSENT))}, headers=service.login()
    )
    assert (nothing.status_code, nothing.json()["code"]) == (422, "invalid")
    other = await enrol(service, files={"passport": ("p.jpg", jpeg())})
    assert "passport" in other.json()["detail"]
    form: dict[str, Any] = {"data": {"consent": json.dumps(CONSENT)}, "files": {"portrait": jpeg()}}
    for scopes in (set[str](), {"control"}):
        answer = await service.http.post("/v1/identities", headers=service.login(scopes=scopes), **form)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope")


async def test_uploads_are_cut_off_at_their_limit(service: Service) -> None:
    async with serve(service.planes, IngressSettings(max_portrait_bytes=5000, max_voice_bytes=5000)) as small:
        assert (await enrol(small, files={"portrait": b"x" * 5000})).status_code == 201
        for size in (5001, 3 << 20):
            answer = await enrol(small, files={"portrait": b"x" * size})
            assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
        answer = await small.http.post("/v1/identities", content=b"{}", headers=small.login())
        assert answer.status_code == 422
        broken = {**small.login(), "Content-Type": "multipart/form-data"}
        assert (await small.http.post("/v1/identities", content=b"--", headers=broken)).status_code == 422


async def test_identities_are_seen_by_owner_and_grantee_and_revoked_by_the_owner(service: Service) -> None:
    mine, granted = await service.identity(), await service.identity(granted_to="bob")
    public = await service.identity(granted_to="*")

    async def seen(sub: str) -> set[str]:
        answer = await service.http.get("/v1/identities", headers=service.login(sub, {"subscribe"}))
        return {each["id"] for each in answer.json()} & {mine, granted, public}

    assert await seen("ada") == {mine, granted, public}
    assert await seen("bob") == {granted, public}
    assert await seen("eve") == {public}
    path = f"/v1/identities/{mine}"
    assert (await service.http.get(path, headers=service.login("eve", {"identity"}))).status_code == 403
    assert (await service.http.delete(path, headers=service.login("eve", {"identity"}))).status_code == 403
    assert (await service.http.delete("/v1/identities/none", headers=service.login())).status_code == 404
    gone = (await service.http.delete(path, headers=service.login())).json()
    assert gone["revoked"]
    assert (await IdentityStore(service.planes.events).load(mine)).revoked
    refused = await service.http.post("/v1/sessions", json={"face": mine}, headers=service.login())
    assert (refused.status_code, refused.json()["code"]) == (403, "refused")


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        ({"face": "none"}, 404, "not_found"),
        ({"record": 1}, 422, "invalid"),
        ({"on_voice_fail": "hope"}, 422, "invalid"),
        ({"chunk_ms": 100}, 422, "invalid"),
        ({"max_faces": 0}, 422, "invalid"),
        ({"max_faces": 9}, 422, "invalid"),
        ({"max_faces": "1"}, 422, "invalid"),
        ({"on_miss": "show"}, 422, "invalid"),
        ({"bystanders": "passthrough"}, 422, "invalid"),
        ({"surprise": 1}, 422, "invalid"),
        ([], 422, "invalid"),
    ],
)
async def test_wishes_out_of_range_are_refused(service: Service, wish: Any, status: int, code: str) -> None:
    answer = await service.http.post("/v1/sessions", json=wish, headers=service.login())
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert "input" not in answer.json()


@pytest.mark.parametrize("wish", [{"on_miss": "passthrough"}, {"bystanders": "show"}, {"on_voice_fail": "passthrough"}])
async def test_showing_a_raw_face_or_voice_needs_its_scope(service: Service, wish: dict[str, str]) -> None:
    scopes = {"publish:video", "publish:audio", "subscribe", "control", "identity", "ops", "replay"}
    answer = await service.http.post("/v1/sessions", json=wish, headers=service.login(scopes=scopes))
    assert (answer.status_code, answer.json()["code"]) == (403, "scope")
    allowed = service.login(scopes=scopes | {"passthrough"})
    assert (await service.http.post("/v1/sessions", json=wish, headers=allowed)).status_code == 201


async def test_a_recorded_session_says_so_and_asks_for_its_recorder(service: Service) -> None:
    """No further scope is needed: the owner records what is theirs."""
    for wish, record in (({"record": True}, True), ({}, False)):
        made = (await service.http.post("/v1/sessions", json=wish, headers=service.login())).json()
        assert made["record"] is record
        told = (await service.http.get(f"/v1/sessions/{made['sid']}", headers=service.login())).json()
        assert (told["record"], told["on_voice_fail"]) == (record, "silence")
        stored = (await SessionStore(service.planes).load(made["sid"])).record
        assert (stored.record, stored.config) == (record, PolicyConfig())


async def test_a_recorded_session_wears_only_who_allowed_recording(service: Service) -> None:
    """At its start, and when it changes to somebody else."""
    private = await service.identity()
    refused = await service.http.post("/v1/sessions", json={"face": private, "record": True}, headers=service.login())
    assert (refused.status_code, refused.json()["code"]) == (403, "refused")
    assert "record" in refused.json()["detail"]
    allowed = await service.identity(scope=["face", "voice", "live", "record"])
    socket = await service.open(*(await service.session(face=allowed, record=True)))
    await socket.say(type="settings", face=private)
    await socket.until(socket.errors, what="refusal")
    assert socket.errors() == ["refused"]


async def test_sessions_start_with_the_thresholds_that_ingress_was_given(service: Service) -> None:
    """They are the session's first event, so that a replay needs nothing else."""
    config = PolicyConfig(chunk_grow_chunks=7)
    async with serve(service.planes, IngressSettings(policy=config)) as other:
        sid, _ = await other.session()
    entries = await service.planes.events.entries(SessionKeys(sid).metrics, count=1)
    started = metric_events.decode(entries[0].fields[EVENT])
    assert isinstance(started, SessionStarted)
    assert started.config == config


async def test_consent_is_checked_for_kind_and_wearer(service: Service) -> None:
    granted = await service.identity(granted_to="bob")
    face_only = (await enrol(service)).json()["id"]
    for sub, wish in (("ada", {"face": granted}), ("ada", {"voice": face_only})):
        answer = await service.http.post("/v1/sessions", json=wish, headers=service.login(sub))
        assert answer.status_code == 403, answer.text
    await service.session("bob", face=granted, voice=granted)


async def test_a_session_belongs_to_who_created_it(service: Service) -> None:
    sid, _ = await service.session(max_faces=2)
    path = f"/v1/sessions/{sid}"
    eve = service.login("eve")
    for answer in (
        await service.http.get(path, headers=eve),
        await service.http.delete(path, headers=eve),
        await service.http.post(path + "/connect", json={"role": "view"}, headers=eve),
    ):
        assert answer.status_code == 403
    mine = (await service.http.get(path, headers=service.login())).json()
    assert (mine["state"], mine["max_faces"], mine["on_miss"]) == ("live", 2, "blur")
    assert sid in {each["sid"] for each in (await service.http.get("/v1/sessions", headers=service.login())).json()}
    bob = service.login("bob", {"publish:video"})
    assert sid not in {each["sid"] for each in (await service.http.get("/v1/sessions", headers=bob)).json()}
    gone = (await service.http.delete(path, headers=service.login())).json()
    assert (gone["state"], gone["reason"]) == ("ended", "ended by its owner")
    assert (await service.http.post(path + "/connect", json={}, headers=service.login())).status_code == 404
    assert sid not in {each["sid"] for each in (await service.http.get("/v1/sessions", headers=service.login())).json()}


async def test_connect_tokens_carry_no_more_than_the_login(service: Service) -> None:
    sid, _ = await service.session()
    path = f"/v1/sessions/{sid}/connect"
    weak = service.login(scopes={"control"})
    for role in ("publish", "view"):
        assert (await service.http.post(path, json={"role": role}, headers=weak)).status_code == 403
    assert (await service.http.post(path, json={"role": "boss"}, headers=weak)).status_code == 422


async def test_an_overdue_session_is_ended(service: Service) -> None:
    async with serve(service.planes, IngressSettings(idle_s=1, sweep_s=0.1)) as brief:
        sid, _ = await brief.session()

        async def ended() -> bool:
            return (await service.planes.events.get(names.SessionKeys(sid).session)).get(b"ended") == b"idle"

        await until(ended, what="end of an idle session")


async def test_health_says_which_plane_is_away(service: Service) -> None:
    assert (await service.http.get("/healthz")).json() == {"ok": True, "planes": {"media": True, "events": True}}
    planes, gone = service.planes, RedisBus("unix:///nowhere.sock")
    async with serve(Planes(gone, planes.events), IngressSettings()) as broken:
        answer = await broken.http.get("/healthz")
        assert (answer.status_code, answer.json()["planes"]) == (503, {"media": False, "events": True})
    async with serve(Planes(planes.media, gone), IngressSettings()) as broken:
        answer = await broken.http.post("/v1/sessions", json={}, headers=broken.login())
        assert (answer.status_code, answer.json()["code"]) == (503, "bus_unavailable")
        assert "nowhere" not in answer.text
        assert answer.headers["retry-after"] == "1"


async def test_unknown_paths_and_methods_answer_in_the_same_form(service: Service) -> None:
    assert (await service.http.get("/v2")).json()["code"] == "not_found"
    assert (await service.http.put("/v1/login")).json()["code"] == "method_not_allowed"
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert (await service.http.get(path)).status_code == 404


async def test_pages_are_strict(service: Service, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<!doctype html><title>studio</title>")
    (tmp_path / "app.js").write_text("export {}")
    async with serve(service.planes, IngressSettings(), web_root=tmp_path) as site:
        page, script = await site.http.get("/"), await site.http.get("/static/app.js")
        assert "studio" in page.text
        assert page.headers["cache-control"] == "no-store"
        assert script.headers["content-type"].startswith("text/javascript")
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        for answer in (page, script, await site.http.get("/healthz"), await site.http.get("/none")):
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cross-origin-opener-policy"] == "same-origin"
            assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
            assert "camera=(self)" in answer.headers["permissions-policy"]
        for path in ("/static/../conftest.py", "/static/%2e%2e/secret", "/static/"):
            assert (await site.http.get(path)).status_code == 404
