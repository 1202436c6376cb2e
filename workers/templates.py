"""The templates of the identities that a session wears, or none: fail closed, but not for a passing fault."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from schemas.errors import InputRejected, NotFound, Refused
from schemas.identity_store import IdentityStore

log = structlog.get_logger(__name__)

S = TypeVar("S")


async def open_worn(
    identities: IdentityStore,
    worn: Sequence[str],
    *,
    kind: str,
    engine: str,
    open_with: Callable[[Sequence[bytes | None]], Awaitable[S]],
) -> S:
    """Return the engine's session that wears the identities `worn` as `kind`, in this order.

    An identity that was revoked or was never enrolled for `engine` has None for a template. Where the engine finds one
    damaged, the session is opened without any: it covers every face, or silences. `BusUnavailable` is raised, for the
    caller to try again: a server that is away says nothing about consent.
    """
    templates: dict[str, bytes | None] = dict.fromkeys(worn)
    for identity_id in templates:
        try:
            templates[identity_id] = await identities.template(identity_id, kind, engine)
        except (NotFound, Refused, InputRejected) as error:
            log.warning("no usable template", identity=identity_id, kind=kind, error=str(error))
    try:
        return await open_with([templates[identity_id] for identity_id in worn])
    except InputRejected as error:
        log.warning("damaged template", identities=worn, kind=kind, error=str(error))
        return await open_with([])
