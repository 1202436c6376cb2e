"""From a login code to a swapped frame: the whole way, as a browser takes it."""

import json

import pytest

from schemas import names
from schemas.media import unpack
from schemas.wire import MediaType
from tests.ingress.client import CONSENT, Service, echo, jpeg, new_code
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_code_login_identity_session_publish_and_watch(service: Service) -> None:
    """A code buys a login, that an identity and a session, that a connection; outputs come back and to a viewer."""
    code = new_code()
    await service.planes.events.put(names.login(code), {b"sub": b"ada"})
    login = (await service.http.post("/v1/login", json={"code": code})).json()
    auth = {"Authorization": f"Bearer {login['token']}"}
    me = (await service.http.get("/v1/me", headers=auth)).json()
    assert me["sub"] == "ada"
    assert "publish:video" in me["scopes"]
    assert me["expires"] == login["expires"]

    answer = await service.http.post(
        "/v1/identities",
        files={"portrait": ("p.jpg", jpeg())},
        data={"consent": json.dumps(CONSENT), "label": "Ada"},
        headers=auth,
    )
    assert answer.status_code == 201, answer.text
    face = answer.json()
    assert (face["kinds"], face["expires"]) == (["face"], "2099-01-01T00:00:00+00:00")

    made = (await service.http.post("/v1/sessions", json={"face": face["id"]}, headers=auth)).json()
    sid = made["sid"]
    assert made["url"] == service.url(sid)
    async with echo(service.planes, sid):
        publisher = await service.open(sid, made["token"])
        viewer = await service.open(sid, await service.token(sid, "view"))
        assert publisher.told("ready")[0]["params"]["chunk_ms"] == 192
        await publisher.frame(5_000_000, seq=7)
        await publisher.sound(5_000_000, seq=9, ms=200)
        await publisher.until(lambda: len(publisher.media) == 2, what="own outputs")
        await viewer.until(lambda: len(viewer.media) == 2, what="the viewer's outputs")
    assert {(m.type, m.pts_us, m.seq) for m in publisher.media} == {
        (MediaType.VIDEO, 5_000_000, 7),
        (MediaType.AUDIO, 5_000_000, 9),
    }
    assert {m.seq for m in viewer.media} == {7, 9}
    assert len({m.pts_us for m in viewer.media}) == 1  # sound and picture of one moment, in session time
    assert len(publisher.sounds()[0].data) == 192 * 32
    await publisher.until(lambda: publisher.told("status"), what="status")
    assert not publisher.errors()


@pytest.mark.parametrize("chunk_ms", [96, 320])
async def test_every_header_carries_the_parameters_in_force(service: Service, chunk_ms: int) -> None:
    sid, token = await service.session(chunk_ms=chunk_ms)
    publisher = await service.open(sid, token)
    await publisher.sound(0, ms=chunk_ms)
    entries: list[object] = []

    async def arrived() -> bool:
        entries[:] = await service.inputs(sid, MediaType.AUDIO)
        return bool(entries)

    await until(arrived, what="an input chunk")
    entry = (await service.inputs(sid, MediaType.AUDIO))[0]
    media = unpack(entry.id, entry.fields)
    assert media.header.chunk_ms == chunk_ms
    assert len(media.data) == chunk_ms * 32
