"""The identities that a replay wears: from the store of the running system, or of the data directory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ops.embedded_server import EmbeddedServer, ServerOptions, find_binary
from ops.installation import Installation
from ops.replay.media.player import Permit
from ops.settings import Settings
from schemas.bus.base import Bus
from schemas.bus.redis import RedisBus
from schemas.consent import require_consent
from schemas.errors import NotFound, Refused
from schemas.identity_store import IdentityStore
from schemas.session_store import SessionRecord


@asynccontextmanager
async def events_plane(settings: Settings) -> AsyncIterator[Bus]:
    """Open the events plane; where no system runs, its embedded server is started on the data directory meanwhile.

    Raises `Misconfigured` when the data directory is in use or the server does not start.
    """
    installation = Installation(settings.data_dir)
    running = installation.running()
    url = settings.events_url or settings.redis_url or (running and running.events_url)
    if url:
        bus = RedisBus(url)
        try:
            yield bus
        finally:
            await bus.close()
        return
    with installation.locked():
        options = ServerOptions("events", durable=True)
        server = EmbeddedServer(find_binary(settings.server_binary), installation.folder / "events", options)
        server.start()
        bus = RedisBus(server.url)
        try:
            yield bus
        finally:
            await bus.close()
            server.stop()


def permits(events: Bus, record: SessionRecord) -> Permit:
    """Return the check that an identity of the session may be worn again, by the session's owner.

    It raises `Refused` where consent was revoked, has expired or does not cover it, and where the identity is gone:
    what nobody can show consent for is not replayed.
    """
    store = IdentityStore(events)

    async def permit(kind: str, identity_id: str) -> None:
        try:
            identity = await store.load(identity_id)
        except NotFound:
            raise Refused(
                f"the session wore the {kind} of identity {identity_id}, which is not in the identity store: without"
                " its consent it is not replayed; use the data directory or the servers of that system"
            ) from None
        now_ms = await events.now_ms()
        require_consent(identity, kind=kind, wearer=record.owner, now_ms=now_ms, recorded=record.record)

    return permit
