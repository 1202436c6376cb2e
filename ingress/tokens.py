"""Tokens: what they say, how they are signed, and every check that needs nothing but the token, the keys and the time.

Two kinds, with different audiences and `typ`, so that neither passes for the other:

| | login | connect |
|---|---|---|
| audience, typ | `mirage`, `JWT` or `at+jwt` | `mirage:connect`, `mirage-connect+jwt` |
| signed by | the shared secret, or an issuer's key | the shared secret only |
| lives | hours | up to 60 s, used once |
| opens | REST | one WebSocket of the session in `sid`, until `until` |
"""

import base64
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from ingress.failures import ScopeMissing, Unauthenticated
from schemas.errors import Misconfigured

MAX_TOKEN_BYTES = 4096
MIN_SECRET_BYTES = 32
SHARED_KID = "shared"
ISSUER_ALGORITHMS = ("EdDSA", "ES256", "RS256")


class Scope(StrEnum):
    """What a token may allow."""

    PUBLISH_VIDEO = "publish:video"
    PUBLISH_AUDIO = "publish:audio"
    SUBSCRIBE = "subscribe"
    CONTROL = "control"
    OPS = "ops"
    REPLAY = "replay"
    IDENTITY = "identity"
    PASSTHROUGH = "passthrough"


PUBLISHING = frozenset({Scope.PUBLISH_VIDEO, Scope.PUBLISH_AUDIO})
EVERYTHING = frozenset(Scope)
"""What the local user of a one-time login code gets, unless the code says less."""


class Role(StrEnum):
    """What a connection is for."""

    PUBLISH = "publish"
    VIEW = "view"

    @property
    def scopes(self) -> frozenset[Scope]:
        """Scopes of a connect token for this role."""
        if self is Role.VIEW:
            return frozenset({Scope.SUBSCRIBE})
        return PUBLISHING | {Scope.SUBSCRIBE, Scope.CONTROL}


@dataclass(frozen=True, slots=True)
class TokenUse:
    """A kind of token."""

    audience: str
    types: tuple[str, ...]
    """Accepted `typ` headers in lower case; the first is what we write."""


LOGIN = TokenUse("mirage", ("jwt", "at+jwt"))
CONNECT = TokenUse("mirage:connect", ("mirage-connect+jwt",))


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says. Times are whole seconds since the epoch."""

    sub: str
    scopes: frozenset[str]
    iat: int
    exp: int
    jti: str = ""
    sid: str = ""
    parent: str = ""
    """Of a connect token: the `jti` of the login that it was issued for."""
    until: int = 0
    """A connection opened with this token may last until then."""

    def need(self, scope: Scope) -> None:
        """Raise `ScopeMissing` unless the token carries `scope`."""
        if scope not in self.scopes:
            raise ScopeMissing(f"this needs a token with scope {scope}")


class KeyRing:
    """The keys that tokens are checked with, chosen by `kid`: each has one algorithm, whatever a token's header says.

    `secret` (HS256, at least 32 bytes) signs our own tokens, and verifies those that name `kid` `shared` or none.
    `issuers` are public JWKs (EdDSA, ES256, RS256; each with its `kid`), whose login tokens are accepted too.
    """

    def __init__(self, secret: bytes, issuers: Iterable[Mapping[str, Any]] = ()) -> None:
        """Build the keys; raises `Misconfigured` for one that is too short, of another kind, or without `kid`."""
        if len(secret) < MIN_SECRET_BYTES:
            raise Misconfigured(f"the JWT secret has {len(secret)} bytes; HS256 needs at least {MIN_SECRET_BYTES}")
        encoded = base64.urlsafe_b64encode(secret).rstrip(b"=").decode()
        self._shared = jwt.PyJWK({"kty": "oct", "k": encoded}, "HS256")
        self._issuers = dict(_issuer_key(key) for key in issuers)

    def sign(self, claims: Mapping[str, Any], use: TokenUse) -> str:
        """Return a signed token with `claims` and the audience of `use`."""
        return jwt.encode(
            {**claims, "aud": use.audience},
            self._shared,
            algorithm="HS256",
            headers={"kid": SHARED_KID, "typ": use.types[0]},
        )

    def login(self, sub: str, scopes: Iterable[str], *, now_s: int, ttl_s: int) -> str:
        """Return a login token."""
        claims = {"sub": sub, "scope": " ".join(sorted(scopes)), "iat": now_s, "exp": now_s + ttl_s}
        return self.sign(claims | {"jti": secrets.token_hex(16)}, LOGIN)

    def connect(
        self, sub: str, scopes: Iterable[str], sid: str, *, now_s: int, ttl_s: int, until: int, parent: str = ""
    ) -> str:
        """Return a connect token for one WebSocket of session `sid`, which may last until `until`.

        `parent` is the `jti` of the login behind it: denying that one denies the connection.
        """
        claims = {"sub": sub, "scope": " ".join(sorted(scopes)), "iat": now_s, "exp": now_s + ttl_s}
        return self.sign(claims | {"jti": secrets.token_hex(16), "sid": sid, "until": until, "parent": parent}, CONNECT)

    def verify(self, token: str, use: TokenUse, *, now_s: int, leeway_s: int, max_ttl_s: int) -> Claims:
        """Return what a token says; raises `Unauthenticated` that names the first check that failed."""
        if len(token) > MAX_TOKEN_BYTES:
            raise Unauthenticated(f"token of {len(token)} bytes; at most {MAX_TOKEN_BYTES} are accepted")
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid"), use)
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],
                audience=use.audience,
                options={
                    "require": ["exp", "iat", "aud", "sub"],
                    "strict_aud": True,
                    "enforce_minimum_key_length": True,
                    # Times are checked below, against the clock that we are given.
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated(f"the token is not valid: {error}") from None
        if str(header.get("typ", "")).lower() not in use.types:
            raise Unauthenticated(f"the token has typ {header.get('typ')!r}; expected {' or '.join(use.types)}")
        claims = _claims(payload)
        _check_times(claims, payload.get("nbf"), now_s=now_s, leeway_s=leeway_s, max_ttl_s=max_ttl_s)
        return claims

    def _key(self, kid: object, use: TokenUse) -> jwt.PyJWK:
        if kid is None or kid == SHARED_KID:
            return self._shared
        key = self._issuers.get(kid) if use is LOGIN and isinstance(kid, str) else None
        if key is None:
            raise Unauthenticated(f"the token names a key that is not known here: kid {str(kid)[:64]!r}")
        return key


def _issuer_key(data: Mapping[str, Any]) -> tuple[str, jwt.PyJWK]:
    kid = data.get("kid")
    if not isinstance(kid, str) or not kid or kid == SHARED_KID:
        raise Misconfigured(f"an issuer's key needs a kid other than {SHARED_KID!r}, got {kid!r}")
    try:
        key = jwt.PyJWK(dict(data))
    except jwt.PyJWTError as error:
        raise Misconfigured(f"the key {kid!r} is not a JWK that we can use: {error}") from None
    if key.algorithm_name not in ISSUER_ALGORITHMS:
        raise Misconfigured(f"the key {kid!r} is for {key.algorithm_name}; expected {', '.join(ISSUER_ALGORITHMS)}")
    return kid, key


def _claims(payload: Mapping[str, Any]) -> Claims:
    def text(name: str) -> str:
        value = payload.get(name, "")
        if not isinstance(value, str):
            raise Unauthenticated(f"the token's {name} is not a string")
        return value

    def seconds(name: str) -> int:
        value = payload.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
            raise Unauthenticated(f"the token's {name} is not a time in seconds since the epoch")
        return int(value)

    if not text("sub"):
        raise Unauthenticated("the token's sub is empty")
    return Claims(
        sub=text("sub"),
        scopes=frozenset(text("scope").split()),
        iat=seconds("iat"),
        exp=seconds("exp"),
        jti=text("jti"),
        sid=text("sid"),
        parent=text("parent"),
        until=seconds("until"),
    )


def _check_times(claims: Claims, not_before: object, *, now_s: int, leeway_s: int, max_ttl_s: int) -> None:
    if claims.exp <= claims.iat or claims.exp - claims.iat > max_ttl_s:
        raise Unauthenticated(f"the token lives {claims.exp - claims.iat} s; accepted are 1 to {max_ttl_s}")
    if now_s >= claims.exp + leeway_s:
        raise Unauthenticated("the token has expired")
    earliest = max(claims.iat, not_before) if isinstance(not_before, int) else claims.iat
    if earliest > now_s + leeway_s:
        raise Unauthenticated("the token is not valid yet")


def granted(role: Role, held: Iterable[str]) -> Sequence[str]:
    """Return the scopes of `role` that a holder of `held` may pass on; raises `ScopeMissing` when that is none."""
    scopes = sorted(role.scopes & set(held))
    if not scopes or (role is Role.PUBLISH and not PUBLISHING & set(scopes)):
        raise ScopeMissing(f"role {role} needs a token with {' or '.join(sorted(role.scopes))}")
    return scopes
