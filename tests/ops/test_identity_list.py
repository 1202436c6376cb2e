"""`mirage identity list` as a user runs it."""

import uuid
from pathlib import Path

from ops.shipped import public_consent
from schemas.bus.base import Planes
from schemas.consent import Identity
from schemas.identity_store import IdentityStore
from tests.ops.archive.studio import mirage


async def test_a_label_is_shown_as_it_was_given(planes: Planes, server_urls: tuple[str, str], tmp_path: Path) -> None:
    """Square brackets are the terminal library's markup; a label that closes none used to end the command."""
    consent = public_consent("face", "portrait.png")
    identity = Identity(id=uuid.uuid4().hex, label="[/b]", kinds=("face",), owner="test", created_ms=1, consent=consent)
    store = IdentityStore(planes.events)
    await store.add(identity, face=None, voice=None)
    listed = mirage(server_urls, tmp_path, "identity", "list")
    assert listed.returncode == 0, listed.stderr
    assert "[/b]" in listed.stdout
