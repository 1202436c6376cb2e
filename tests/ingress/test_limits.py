"""What strangers may cost: bodies, uploads, sessions, logins."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from ingress import uploads
from ingress.body_limit import MAX_BODY_BYTES
from ingress.identities_api import parse_consent
from ingress.settings import IngressSettings, RateLimits
from schemas import names
from schemas.names import SESSIONS, SessionKeys
from tests.ingress.client import CONSENT, HandClock, Service, jpeg, new_code, serve
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("path", ["/v1/login", "/v1/sessions", "/v1/sessions/x/connect", "/nowhere"])
async def test_a_body_above_64_kib_is_refused_before_it_is_parsed(
    service: Service, path: str, *, streamed: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * (MAX_BODY_BYTES // 2)

    answer = await service.http.post(path, content=pieces() if streamed else b" " * (MAX_BODY_BYTES + 1))
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_body_of_exactly_64_kib_is_read(service: Service) -> None:
    body = json.dumps({"code": new_code()}).encode().ljust(MAX_BODY_BYTES)
    answer = await service.http.post("/v1/login", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


async def test_an_announced_length_is_believed_at_once(service: Service) -> None:
    """The answer comes while the body has not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert b"413" in await reader.readline()
    writer.close()


async def test_answers_to_wrong_bodies_are_bounded(service: Service) -> None:
    wrong = {f"{i}-{'x' * 1000}": 1 for i in range(50)}
    answer = await service.http.post("/v1/login", json=wrong)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert len(answer.content) < 1500


async def test_wrong_codes_lock_nobody_out(service: Service) -> None:
    code = new_code()
    await service.planes.events.put(names.login(code), {b"sub": b"ada"})
    async with serve(service.planes, IngressSettings(), clock=HandClock()) as other:
        tries = (other.http.post("/v1/login", json={"code": new_code()}) for _ in range(60))
        assert 429 in {answer.status_code for answer in await asyncio.gather(*tries)}
        assert (await other.http.post("/v1/login", json={"code": code})).status_code == 200


async def test_an_owner_has_a_bounded_number_of_live_sessions(service: Service) -> None:
    async with serve(service.planes, IngressSettings(max_sessions_per_owner=2)) as small:
        first, _ = await small.session("collector")
        await small.session("collector")
        refused = await small.http.post("/v1/sessions", json={}, headers=small.login("collector"))
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        await small.session("somebody else")
        await small.http.delete(f"/v1/sessions/{first}", headers=small.login("collector"))
        await small.session("collector")


async def test_an_unreadable_session_hides_no_other_and_stops_no_sweep(service: Service) -> None:
    broken = "0" * 32
    await service.planes.events.put(SESSIONS, {broken.encode(): b"0"})  # the oldest: looked at first
    await service.planes.events.put(SessionKeys(broken).session, {b"record": b"rubbish"})
    try:
        sid, _ = await service.session("reader")
        mine = await service.http.get("/v1/sessions", headers=service.login("reader"))
        assert sid in {each["sid"] for each in mine.json()}
        async with serve(service.planes, IngressSettings(idle_s=1, sweep_s=0.1)) as brief:
            sid, _ = await brief.session("reader")

            async def ended() -> bool:
                return (await service.planes.events.get(SessionKeys(sid).session)).get(b"ended") == b"idle"

            await until(ended, what="end of an idle session")
    finally:
        await service.planes.events.drop_fields(SESSIONS, [broken.encode()])


async def test_a_session_gives_out_connect_tokens_at_a_bounded_rate(service: Service) -> None:
    """Its owner's other sessions have their own, and a stranger uses nobody's up."""
    clock, settings = HandClock(), IngressSettings(rates=RateLimits(connects_per_s=1, connects_burst=3))
    async with serve(service.planes, settings, clock=clock) as strict:
        (sid, _), (other, _) = await strict.session("ada"), await strict.session("ada")

        async def ask(sid: str, sub: str = "ada") -> httpx.Response:
            return await strict.http.post(f"/v1/sessions/{sid}/connect", json={}, headers=strict.login(sub))

        assert {(await ask(sid, "mallory")).status_code for _ in range(5)} == {403}
        assert [(await ask(sid)).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = await ask(sid)
        assert refused.json()["code"] == "rate_limited"
        assert refused.headers["retry-after"] == "2"
        assert (await ask(other)).status_code == 200
        clock.ahead_ms += 1_000
        assert [(await ask(sid)).status_code for _ in range(2)] == [200, 429]


# --- uploads ---------------------------------------------------------------------------------------------------------


async def _upload(service: Service, content: AsyncIterator[bytes], options: str = "") -> httpx.Response:
    kind = f"multipart/form-data; boundary=b{options}"
    return await service.http.post("/v1/identities", content=content, headers={**service.login(), "Content-Type": kind})


@dataclass
class _Stalling:
    """An upload that the service has begun to read, and that goes on when it is told to.

    It asks to be told when to send (`Expect: 100-continue`, RFC 9110 10.1.1): whoever is told so holds a place.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def finish(self) -> int:
        """Send an empty form; returns the status."""
        self.writer.write(b"--b--\r\n")
        return await self.status()

    async def status(self) -> int:
        """Return the status of the answer."""
        return int((await self.reader.readline()).split()[1])


@asynccontextmanager
async def _stalling(service: Service) -> AsyncIterator[_Stalling]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    headers = {
        "Host": "x",
        **service.login(),
        "Content-Type": "multipart/form-data; boundary=b",
        "Content-Length": "7",
        "Expect": "100-continue",
    }
    lines = ["POST /v1/identities HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    try:
        async with asyncio.timeout(PATIENCE_S):
            writer.write("\r\n".join(lines).encode())
            assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert await reader.readline() == b"\r\n"
            yield _Stalling(reader, writer)
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("charset", ["utf-16", "idna", "punycode", "latin-1"])
async def test_forms_are_utf_8(service: Service, charset: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="label"\r\n\r\n\xff\xfe..a\r\n--b--\r\n'

    answer = await _upload(service, pieces(), f"; charset={charset}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "UTF-8" in answer.json()["detail"]


async def test_four_uploads_at_a_time(service: Service) -> None:
    """A fifth is refused while four are being read, and finds a place when they are over."""
    async with serve(service.planes, IngressSettings()) as other, AsyncExitStack() as stack:
        four = [await stack.enter_async_context(_stalling(other)) for _ in range(4)]
        form: dict[str, Any] = {"files": {"portrait": jpeg()}, "data": {"consent": json.dumps(CONSENT)}}
        for _ in range(3):
            fifth = await other.http.post("/v1/identities", headers=other.login(), **form)
            assert (fifth.status_code, fifth.json()["code"]) == (429, "rate_limited")
        assert [await each.finish() for each in four] == [422] * 4
        await other.identity()


async def test_an_upload_that_never_ends_is_ended(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MAX_S", 0.1)
    async with _stalling(service) as endless:
        assert await endless.status() == 408
        assert b'"too_slow"' in await endless.reader.readuntil(b"}")


async def test_evidence_names_who_enrols_and_names_hold_nothing_invisible(service: Service) -> None:
    text = json.dumps({**CONSENT, "subject": "A\u202ed\x1b[31ma\u200b"})
    consent = parse_consent(text, ("face",), enroller="ada", now_ms=0)
    assert (consent.evidence.by, consent.subject) == ("ada", "Ad[31ma")
    answer = await service.http.post(
        "/v1/identities",
        files={"portrait": jpeg()},
        data={"consent": text, "label": "\u202eev\x07il\n"},
        headers=service.login(),
    )
    assert answer.json()["label"] == "evil"
