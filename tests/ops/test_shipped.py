"""The identities that ship are worn by anyone, and stay revoked when they were."""

import pytest

from ops.shipped import SHIPPED, add_shipped
from schemas.bus.memory import MemoryBus
from schemas.consent import require_consent
from schemas.errors import Refused
from schemas.identity_store import IdentityStore


async def test_they_are_added_once_and_anyone_may_wear_them() -> None:
    bus = MemoryBus()
    store = IdentityStore(bus)
    await add_shipped(bus, "local")
    for shipped in SHIPPED:
        identity = await store.load(shipped.id)
        require_consent(identity, kind=shipped.kind, wearer="anyone", now_ms=await bus.now_ms(), recorded=True)
        assert await store.template(shipped.id, shipped.kind, "embedded")
    await store.revoke(SHIPPED[0].id)
    await add_shipped(bus, "local")
    assert [identity.id for identity in await store.everyone()] == [shipped.id for shipped in SHIPPED]
    with pytest.raises(Refused, match="revoked"):
        require_consent(await store.load(SHIPPED[0].id), kind="face", wearer="anyone", now_ms=0)
