"""The template of the identity that a session wears, or none: fail closed, but not for a passing fault."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from schemas.errors import InputRejected, NotFound, Refused
from schemas.identity_store import IdentityStore

log = structlog.get_logger(__name__)

S = TypeVar("S")


async def open_worn(
    identities: IdentityStore,
    identity_id: str,
    *,
    kind: str,
    engine: str,
    open_with: Callable[[bytes | None], Awaitable[S]],
) -> S:
    """Return the engine's session that wears `identity_id` as `kind`.

    Without an identity, or with one that was revoked, was never enrolled for `engine` or is damaged, the session is
    opened without a template: it covers every face, or silences. `BusUnavailable` is raised, for the caller to try
    again: a server that is away says nothing about consent.
    """
    if identity_id:
        try:
            return await open_with(await identities.template(identity_id, kind, engine))
        except (NotFound, Refused, InputRejected) as error:
            log.warning("no usable template", identity=identity_id, kind=kind, error=str(error))
    return await open_with(None)
