"""The templates of what a session wears: each in its place, None for what is not usable; none where one is damaged."""

from collections.abc import Sequence

import pytest

from schemas.bus.memory import MemoryBus
from schemas.consent import ANYONE, Consent, Evidence, Identity
from schemas.errors import InputRejected
from schemas.identity_store import Enrolment, IdentityStore
from workers.templates import open_worn

DAMAGED = b"damaged"


async def opened(store: IdentityStore, *worn: str) -> list[list[bytes | None]]:
    """Return what an engine is asked to open, in order."""
    asked: list[list[bytes | None]] = []

    async def open_with(templates: Sequence[bytes | None]) -> None:
        asked.append(list(templates))
        if DAMAGED in templates:
            raise InputRejected("not a template", code="template_invalid")

    await open_worn(store, worn, kind="face", engine="known", open_with=open_with)
    return asked


@pytest.fixture
async def store() -> IdentityStore:
    """Return a store of `a`, `b`, a damaged `d`, a revoked `r`, and `o`, enrolled for another engine."""
    made = IdentityStore(MemoryBus())
    consent = Consent(
        subject="somebody", granted_to=ANYONE, scope=("face", "live"), purpose="test", expires_ms=1 << 42,
        evidence=Evidence(statement="made up", by="test"),
    )  # fmt: skip
    for name in "abdro":
        template = DAMAGED if name == "d" else name.encode()
        enrolment = Enrolment(b"", {"other" if name == "o" else "known": template})
        identity = Identity(id=name, label=name, kinds=("face",), owner="o", created_ms=0, consent=consent)
        await made.add(identity, face=enrolment, voice=None)
    await made.revoke("r")
    return made


@pytest.mark.parametrize(
    ("worn", "templates"),
    [
        ("", []),
        ("ba", [b"b", b"a"]),
        ("aba", [b"a", b"b", b"a"]),
        ("arb", [b"a", None, b"b"]),
        ("oa", [None, b"a"]),
        ("?", [None]),
    ],
)
async def test_every_identity_has_its_place_usable_or_not(
    store: IdentityStore, worn: str, templates: list[bytes | None]
) -> None:
    assert await opened(store, *worn) == [templates]


async def test_with_a_damaged_one_nobody_is_worn(store: IdentityStore) -> None:
    assert (await opened(store, *"ad"))[1:] == [[]]
