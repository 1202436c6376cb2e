"""Who is asking: tokens checked against the keys, the deny-list and the list of used tokens."""

import asyncio
import re
from collections.abc import Mapping

from fastapi import Request
from starlette.datastructures import Headers

from ingress.failures import Unauthenticated
from ingress.settings import IngressSettings
from ingress.tokens import CONNECT, EVERYTHING, LOGIN, Claims, KeyRing, Role, granted
from schemas import names
from schemas.bus.base import Bus
from schemas.clock import Clock
from schemas.errors import InputRejected, Refused
from schemas.wire import BEARER, PROTOCOL

_CODE = re.compile(r"[A-Za-z0-9_-]{16,128}")
_USED_CODE_MS = 24 * 3600 * 1000


class Authority:
    """Checks tokens and makes them. Every check raises `Unauthenticated` or `Refused`."""

    def __init__(self, *, keys: KeyRing, events: Bus, settings: IngressSettings, clock: Clock) -> None:
        """Use the events plane for what must be known on every node."""
        self._keys, self._events, self._settings, self._clock = keys, events, settings, clock

    @property
    def now_s(self) -> int:
        """Wall time in seconds since the epoch."""
        return self._clock.now_ms() // 1000

    async def bearer(self, request: Request) -> Claims:
        """Return the claims of a REST request's login token: a FastAPI dependency."""
        return await self.login(from_header(request.headers))

    async def login(self, token: str) -> Claims:
        """Check a login token."""
        claims = self._keys.verify(
            token,
            LOGIN,
            now_s=self.now_s,
            leeway_s=self._settings.leeway_s,
            max_ttl_s=self._settings.max_login_ttl_s,
        )
        await self.refuse_denied(claims)
        return claims

    async def connect(self, token: str, sid: str) -> Claims:
        """Check a connect token for session `sid`. It is not spent yet."""
        claims = self._keys.verify(
            token,
            CONNECT,
            now_s=self.now_s,
            leeway_s=self._settings.leeway_s,
            max_ttl_s=self._settings.connect_ttl_s,
        )
        if not claims.jti:
            raise Unauthenticated("the connect token has no jti")
        if claims.sid != sid:
            raise Refused("the connect token is for another session")
        if claims.until <= self.now_s:
            raise Unauthenticated("the right to be connected has expired; log in again")
        await self.refuse_denied(claims)
        return claims

    async def spend(self, claims: Claims) -> None:
        """Use up a connect token: of any number of tries, on any node, one wins."""
        ttl_s = self._settings.connect_ttl_s + 2 * self._settings.leeway_s
        if not await self._events.spend(names.used_token(claims.jti), ttl_ms=ttl_s * 1000):
            raise Unauthenticated("the connect token was used before; ask for a new one")

    async def refuse_denied(self, claims: Claims) -> None:
        """Raise `Unauthenticated` when the token, the login behind it or its subject is on the deny-list."""
        keys = [names.denied(name) for name in (claims.sub, claims.jti, claims.parent) if name]
        found = await asyncio.gather(*(self._events.get(key) for key in keys))
        if any(_denies(fields, claims) for fields in found):
            raise Unauthenticated("the token was revoked")

    def issue_connect(self, holder: Claims, role: Role, sid: str) -> str:
        """Return a connect token with the scopes of `role` that `holder`'s login has, for as long as that login."""
        return self._keys.connect(
            holder.sub,
            granted(role, holder.scopes),
            sid,
            now_s=self.now_s,
            ttl_s=self._settings.connect_ttl_s,
            until=holder.exp,
            parent=holder.jti,
        )

    async def redeem(self, code: str) -> tuple[str, int]:
        """Exchange a one-time login code for a login token; returns it and its expiry in s since the epoch."""
        fields = await self._events.get(names.login(code)) if _CODE.fullmatch(code) else {}
        if b"sub" not in fields:
            raise Unauthenticated("the login code is not known or has expired; `mirage up` prints a fresh one")
        if not await self._events.spend(names.used_login(code), ttl_ms=_USED_CODE_MS):
            raise Unauthenticated("the login code was used before; `mirage up` prints a fresh one")
        await self._events.delete([names.login(code)])
        scopes = fields[b"scope"].decode().split() if b"scope" in fields else EVERYTHING
        now_s, ttl_s = self.now_s, self._settings.login_ttl_s
        return self._keys.login(fields[b"sub"].decode(), scopes, now_s=now_s, ttl_s=ttl_s), now_s + ttl_s


def _denies(fields: Mapping[bytes, bytes], claims: Claims) -> bool:
    # A bare entry denies whatever it names; one with `min_iat` (seconds) only tokens issued before.
    return bool(fields) and (b"min_iat" not in fields or claims.iat < int(fields[b"min_iat"]))


def from_header(headers: Headers) -> str:
    """Return the token of an `Authorization: Bearer` header; raises `Unauthenticated` when there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("no token; send `Authorization: Bearer <token>`")
    return token.strip()


def from_upgrade(headers: Headers, subprotocols: list[str]) -> str:
    """Return the token of a WebSocket upgrade, from the subprotocols (browsers) or the header (other clients).

    Raises `InputRejected` when the protocol is not offered, `Unauthenticated` when there is no token.
    """
    if PROTOCOL not in subprotocols:
        raise InputRejected(f"offer the WebSocket subprotocol {PROTOCOL}", code="protocol")
    offered = [name.removeprefix(BEARER) for name in subprotocols if name.startswith(BEARER)]
    if len(offered) > 1:
        raise Unauthenticated("several tokens were offered; send one")
    return offered[0] if offered else from_header(headers)


def check_origin(headers: Headers, allowed: frozenset[str]) -> None:
    """Raise `Refused` when a browser comes from a page that is not on the list. `null` never is."""
    origin = headers.get("origin")
    if origin is not None and origin not in allowed:
        raise Refused(f"pages of origin {origin[:200]!r} may not connect; allowed are {sorted(allowed) or 'none'}")
