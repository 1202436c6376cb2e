"""What an error looks like from outside: one JSON form, and one table from the error tree to HTTP status."""

from typing import Any

from schemas.errors import (
    BusUnavailable,
    CodecError,
    Conflict,
    Fenced,
    InputRejected,
    MirageError,
    Misconfigured,
    NotFound,
    Refused,
    Throttled,
)
from schemas.session_store import ABANDONED


class Unauthenticated(Refused):
    """Who is asking is not known: no token, or one that is not valid (any more)."""

    code = "unauthenticated"


class ScopeMissing(Refused):
    """The token is good, but does not allow this."""

    code = "scope"


# The most specific class decides, so the order is from branch to twig.
_STATUS: dict[type[MirageError], int] = {
    Unauthenticated: 401,
    Refused: 403,
    NotFound: 404,
    Conflict: 409,
    Fenced: 409,
    CodecError: 400,
    InputRejected: 422,
    Throttled: 429,
    BusUnavailable: 503,
    Misconfigured: 500,
    MirageError: 500,
}
_STATUS_BY_CODE = {"too_large": 413, "too_slow": 408}


def session_ended(sid: str, reason: str) -> NotFound:
    """Return the refusal of a session that is over; `abandoned` is a code of its own, as it is on a close."""
    error = NotFound(f"session {sid} has ended: {reason}")
    if reason == ABANDONED:
        error.code = ABANDONED
    return error


def status_of(error: MirageError) -> int:
    """Return the HTTP status that tells a client what kind of error this is."""
    by_code = _STATUS_BY_CODE.get(error.code)
    if by_code is not None:
        return by_code
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def body_of(error: MirageError) -> dict[str, Any]:
    """Return the fields that say what was wrong: `code`, `detail`, and `retry_after_ms` where waiting helps."""
    body: dict[str, Any] = {"code": error.code, "detail": str(error)}
    if isinstance(error, Throttled):
        body["retry_after_ms"] = error.retry_after_ms
    elif isinstance(error, BusUnavailable):
        # The address of a server inside is nobody's business outside; the log has it.
        body |= {"detail": "a stream server does not answer; try again shortly", "retry_after_ms": 1000}
    return body


def headers_of(error: MirageError) -> dict[str, str]:
    """Return the HTTP headers that go with the status."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    retry_after_ms = body_of(error).get("retry_after_ms")
    return {} if retry_after_ms is None else {"Retry-After": str(-(-retry_after_ms // 1000))}
