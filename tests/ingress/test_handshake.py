"""What is checked before a WebSocket opens: refused upgrades get an HTTP status and leave nothing behind."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from ingress.settings import IngressSettings
from ingress.tokens import CONNECT
from schemas import names
from schemas.names import Kind, SessionKeys
from schemas.wire import BEARER, PROTOCOL
from tests.ingress.client import Service, serve
from tests.ingress.conftest import ORIGIN

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def refusal(service: Service, sid: str, token: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """Open a WebSocket that must be refused; returns status and body."""
    with pytest.raises(InvalidStatus) as caught:
        await service.dial(sid, token, **more)
    return caught.value.response.status_code, json.loads(caught.value.response.body or b"{}")


def ticket(service: Service, session: str, **claims: Any) -> str:
    """Sign a connect token with any claims; None removes one."""
    now = service.clock.now_ms() // 1000
    good = {"sub": "ada", "iat": now, "exp": now + 60, "until": now + 900, "sid": session, "jti": "j" + session}
    body = {**good, "scope": "subscribe publish:video", **claims}
    return service.keys.sign({name: value for name, value in body.items() if value is not None}, CONNECT)


@pytest.mark.parametrize(
    ("claims", "status"),
    [
        ({"exp": 1_000_060, "iat": 1_000_000}, 401),
        ({"sid": "0" * 32}, 403),
        ({"sid": None}, 403),
        ({"jti": None}, 401),
        ({"sub": None}, 401),
        ({"until": 1}, 401),
        ({"exp": 9_000_000_000}, 401),
        ({"scope": ""}, 403),
        ({"scope": "control ops"}, 403),
    ],
)
async def test_wrong_claims_are_refused_before_101(service: Service, claims: dict[str, Any], status: int) -> None:
    sid, _ = await service.session()
    assert (await refusal(service, sid, ticket(service, sid, **claims)))[0] == status
    assert await service.planes.media.epoch(SessionKeys(sid).epoch, Kind.PUBLISH) == 0
    assert await service.planes.events.spend(names.used_token("j" + sid), ttl_ms=1000)  # it was not used up


async def test_login_token_does_not_open_a_stream_nor_a_connect_token_the_api(service: Service) -> None:
    sid, token = await service.session()
    login = service.login()["Authorization"].removeprefix("Bearer ")
    status, body = await refusal(service, sid, login)
    assert (status, body["code"]) == (401, "unauthenticated")
    answer = await service.http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_unknown_and_ended_sessions_are_not_found(service: Service) -> None:
    for sid in ("0" * 32, "x"):
        assert (await refusal(service, sid, ticket(service, sid)))[0] == 404
    sid, token = await service.session()
    await service.http.delete(f"/v1/sessions/{sid}", headers=service.login())
    assert (await refusal(service, sid, token))[0] == 404


@pytest.mark.parametrize(
    "origin", ["null", "https://evil.example", "http://studio.example", ORIGIN + ":8443", ORIGIN + ".evil.example"]
)
async def test_other_origins_are_refused(service: Service, origin: str) -> None:
    sid, token = await service.session()
    assert (await refusal(service, sid, token, origin=origin))[0] == 403
    socket = await service.open(sid, token, origin=ORIGIN)  # the token was not used up
    assert socket.raw.subprotocol == PROTOCOL


async def test_token_comes_by_subprotocol_or_header_and_never_by_query(service: Service) -> None:
    sid, token = await service.session()
    protocols = [Subprotocol(PROTOCOL)]
    with pytest.raises(InvalidStatus) as caught:
        await connect(f"{service.url(sid)}?token={token}&access_token={token}", subprotocols=protocols, proxy=None)
    assert caught.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as caught:  # the protocol must be offered
        await connect(service.url(sid), additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)
    assert caught.value.response.status_code == 422
    two = [*protocols, Subprotocol(BEARER + token), Subprotocol(BEARER + "x")]
    with pytest.raises(InvalidStatus) as caught:
        await connect(service.url(sid), subprotocols=two, proxy=None)
    assert caught.value.response.status_code == 401
    header = {"Authorization": f"Bearer {token}"}
    async with connect(
        service.url(sid), subprotocols=protocols, additional_headers=header, proxy=None, origin=Origin(ORIGIN)
    ) as socket:
        assert socket.subprotocol == PROTOCOL


async def test_oversize_token_is_refused(service: Service) -> None:
    sid, _ = await service.session()
    assert (await refusal(service, sid, "x" * 4097))[0] == 401


async def test_a_connect_token_has_one_winner_over_two_ingresses(service: Service, settings: IngressSettings) -> None:
    """Fifty tries at once on two nodes: one WebSocket opens."""
    sid, _ = await service.session()
    token = await service.token(sid, "view")
    async with serve(service.planes, settings) as other:
        tries = [(service if i % 2 else other).dial(sid, token) for i in range(50)]
        opened = await asyncio.gather(*tries, return_exceptions=True)
        winners = [each for each in opened if not isinstance(each, BaseException)]
        losers = [each for each in opened if isinstance(each, InvalidStatus)]
        assert (len(winners), len(losers)) == (1, 49)
        assert {each.response.status_code for each in losers} == {401}
        await winners[0].close()


async def test_denied_subjects_and_tokens_are_refused(service: Service) -> None:
    sid, token = await service.session(sub="eve")
    now = service.clock.now_ms() // 1000
    await service.planes.events.put(names.denied("eve"), {b"min_iat": b"%d" % (now + 100)})
    try:
        assert (await refusal(service, sid, token))[0] == 401
        assert (await service.http.get("/v1/me", headers=service.login("eve"))).status_code == 401
        await service.planes.events.put(names.denied("eve"), {b"min_iat": b"%d" % (now - 100)})
        assert (await service.http.get("/v1/me", headers=service.login("eve"))).status_code == 200
    finally:
        await service.planes.events.delete([names.denied("eve")])


async def test_what_a_terminal_would_obey_is_not_logged(service: Service) -> None:
    with capture_logs() as logged, pytest.raises(InvalidStatus):
        await service.dial("%1b%5d0%3bowned%07", "x")
    (refused,) = (entry for entry in logged if entry["event"] == "upgrade refused")
    assert refused["sid"] is None
