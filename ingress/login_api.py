"""REST for people: the one-time login code, who am I, and whether the service is well."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from ingress.buckets import Bucket
from ingress.failures import Unauthenticated
from ingress.services import Services
from ingress.tokens import Claims
from schemas.bus.base import Bus
from schemas.errors import BusUnavailable

_LOGINS_PER_S, _LOGINS_BURST = 2.0, 20.0
_HEALTH_S = 1.0


class LoginWish(BaseModel):
    """The body of `POST /v1/login`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    code: str = Field(max_length=128)


def login_router(services: Services) -> APIRouter:
    """Return the routes `/v1/login`, `/v1/me` and `/healthz`."""
    router = APIRouter()
    authority, clock = services.authority, services.clock
    attempts = Bucket("failed logins", _LOGINS_PER_S, _LOGINS_BURST, now_us=clock.monotonic_us())
    Caller = Annotated[Claims, Depends(authority.bearer)]  # noqa: N806  # a type, made from a collaborator

    @router.post("/v1/login")
    async def login(wish: LoginWish) -> dict[str, Any]:
        try:
            token, expires = await authority.redeem(wish.code)
        except Unauthenticated:
            # Only failures count: whoever floods us with wrong codes locks nobody out who has the right one.
            attempts.take(1, now_us=clock.monotonic_us())
            raise
        return {"token": token, "expires": expires}

    @router.get("/v1/me")
    async def me(caller: Caller) -> dict[str, Any]:
        return {"sub": caller.sub, "scopes": sorted(caller.scopes), "expires": caller.exp}

    @router.get("/healthz")
    async def health(response: Response) -> dict[str, Any]:
        media, events = await asyncio.gather(_answers(services.planes.media), _answers(services.planes.events))
        if not (media and events):
            response.status_code = 503
        return {"ok": media and events, "planes": {"media": media, "events": events}}

    return router


async def _answers(bus: Bus) -> bool:
    try:
        async with asyncio.timeout(_HEALTH_S):
            await bus.now_ms()
    except (BusUnavailable, TimeoutError):
        return False
    return True
