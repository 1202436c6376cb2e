"""REST for sessions: create, list, look at, connect to, end."""

import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from ingress.failures import session_ended
from ingress.in_force import at_start
from ingress.services import Services
from ingress.tokens import Claims, Role, Scope, granted
from ingress.wearing import consents_end_ms, followed
from schemas.errors import CodecError, InputRejected, NotFound, Refused, Throttled
from schemas.policy_config import CHUNK_LADDER_MS
from schemas.session_store import Session, SessionRecord

log = structlog.get_logger(__name__)

_NEVER_MS = 1 << 53
"""A session that wears nobody has no consent that could end."""


class SessionWish(BaseModel):
    """The body of `POST /v1/sessions`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    face: str | None = Field(default=None, max_length=64)
    faces: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = None
    voice: str | None = Field(default=None, max_length=64)
    max_faces: int | None = Field(default=None, ge=1)
    on_miss: Literal["blur", "freeze", "blank", "passthrough"] = "blur"
    bystanders: Literal["blur", "show"] = "blur"
    on_voice_fail: Literal["silence", "passthrough"] = "silence"
    record: bool = False
    chunk_ms: int | None = None


class ConnectWish(BaseModel):
    """The body of `POST /v1/sessions/{sid}/connect`."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Role.PUBLISH


def sessions_router(services: Services) -> APIRouter:
    """Return the routes under `/v1/sessions`."""
    router = APIRouter(prefix="/v1/sessions")
    _add_collection(router, services)
    _add_member(router, services)
    return router


def _add_collection(router: APIRouter, services: Services) -> None:
    sessions, authority = services.sessions, services.authority
    Caller = Annotated[Claims, Depends(authority.bearer)]  # noqa: N806  # a type, made from a collaborator

    @router.post("", status_code=201)
    async def create(request: Request, wish: SessionWish, caller: Caller) -> dict[str, Any]:
        granted(Role.PUBLISH, caller.scopes)
        most = services.settings.max_sessions_per_owner
        if sum([session.record.owner == caller.sub async for session in live(services)]) >= most:
            raise Throttled(f"you have {most} live sessions already; end one", retry_after_ms=5_000)
        record = await plan(services, wish, caller)
        await sessions.create(record, deadline_ms=record.created_ms + services.settings.idle_s * 1000)
        log.info("session created", sid=record.sid, owner=caller.sub, faces=record.faces, voice=record.voice)
        return {
            "sid": record.sid,
            "token": authority.issue_connect(caller, Role.PUBLISH, record.sid),
            "url": stream_url(request, record.sid),
            "params": at_start(record).params.as_json(),
            "record": record.record,
        }

    @router.get("")
    async def mine(caller: Caller) -> list[dict[str, Any]]:
        now_ms = await services.planes.events.now_ms()
        return [
            as_json(session, now_ms)
            async for session in live(services)
            if caller.sub == session.record.owner or Scope.OPS in caller.scopes
        ]


def _add_member(router: APIRouter, services: Services) -> None:
    sessions, authority = services.sessions, services.authority
    Caller = Annotated[Claims, Depends(authority.bearer)]  # noqa: N806  # a type, made from a collaborator

    async def owned(sid: str, caller: Claims) -> Session:
        session = await sessions.load(sid)
        if session.record.owner != caller.sub:
            raise Refused(f"session {sid} belongs to someone else")
        return session

    @router.get("/{sid}")
    async def one(sid: str, caller: Caller) -> dict[str, Any]:
        return as_json(await owned(sid, caller), await services.planes.events.now_ms())

    @router.post("/{sid}/connect")
    async def connect(request: Request, sid: str, wish: ConnectWish, caller: Caller) -> dict[str, Any]:
        reason = (await owned(sid, caller)).over(await services.planes.events.now_ms())
        if reason is not None:
            raise session_ended(sid, reason)
        services.hub.limits(sid, services.settings.rates).connect()
        return {"token": authority.issue_connect(caller, wish.role, sid), "url": stream_url(request, sid)}

    @router.delete("/{sid}")
    async def end(sid: str, caller: Caller) -> dict[str, Any]:
        await owned(sid, caller)
        await sessions.end(sid, "ended by its owner")
        return as_json(await sessions.load(sid), await services.planes.events.now_ms())


async def live(services: Services) -> AsyncIterator[Session]:
    """Yield the sessions that have not ended, oldest first. One that cannot be read hides no other."""
    for sid in await services.sessions.live():
        try:
            yield await services.sessions.load(sid)
        except NotFound:
            continue
        except CodecError as error:
            log.warning("unreadable session", sid=sid, error=str(error))


def stream_url(request: Request, sid: str) -> str:
    """Return the address of the session's WebSocket, as this client reaches us."""
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return f"{scheme}://{request.url.netloc}/v1/sessions/{sid}/stream"


def as_json(session: Session, now_ms: int) -> dict[str, Any]:
    """Return a session for its owner, as it stands at `now_ms` (server time)."""
    record, ended = session.record, session.over(now_ms)
    return {
        "sid": record.sid,
        "owner": record.owner,
        "faces": record.faces,
        "voice": record.voice,
        "max_faces": record.max_faces,
        "on_miss": record.on_miss,
        "bystanders": record.bystanders,
        "on_voice_fail": record.on_voice_fail,
        "record": record.record,
        "created_ms": record.created_ms,
        "deadline_ms": session.deadline_ms,
        "state": "live" if ended is None else "ended",
        "reason": ended,
        "params": at_start(record).params.as_json(),
    }


async def plan(services: Services, wish: SessionWish, caller: Claims) -> SessionRecord:
    """Return the record of the session that `caller` wishes for.

    Raises `InputRejected` for values out of range, `NotFound` for an unknown identity, `Refused` where scope or
    consent is missing.
    """
    settings = services.settings
    chunk_ms = settings.chunk_ms if wish.chunk_ms is None else wish.chunk_ms
    if chunk_ms not in CHUNK_LADDER_MS:
        raise InputRejected(f"chunk_ms is {chunk_ms}; expected one of {list(CHUNK_LADDER_MS)}", code="invalid")
    max_faces = wish.max_faces or len(wish.faces or ()) or settings.default_max_faces
    if max_faces > settings.max_faces:
        raise InputRejected(f"{max_faces} faces to follow; max_faces is {settings.max_faces} at most", code="invalid")
    if wish.on_miss == "passthrough" or wish.bystanders == "show" or wish.on_voice_fail == "passthrough":
        caller.need(Scope.PASSTHROUGH)
    faces, voice = followed(wish.face, wish.faces, max_faces=max_faces) or (), wish.voice or ""
    now_ms = await services.planes.events.now_ms()
    expires_ms = await consents_end_ms(services, faces, voice, wearer=caller.sub, recorded=wish.record, now_ms=now_ms)
    return SessionRecord(
        sid=secrets.token_hex(16),
        owner=caller.sub,
        faces=faces,
        voice=voice,
        max_faces=max_faces,
        on_miss=wish.on_miss,
        bystanders=wish.bystanders,
        on_voice_fail=wish.on_voice_fail,
        record=wish.record,
        chunk_ms=chunk_ms,
        created_ms=now_ms,
        expires_ms=_NEVER_MS if expires_ms is None else expires_ms,
        config=settings.policy,
    )
