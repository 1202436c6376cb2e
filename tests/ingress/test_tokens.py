"""Tokens: every check that needs only the token, the keys and the time."""

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from ingress.failures import ScopeMissing, Unauthenticated
from ingress.tokens import CONNECT, LOGIN, Claims, KeyRing, Role, TokenUse, granted
from schemas.errors import Misconfigured
from tests.ingress.client import SECRET

NOW = 1_800_000_000
GOOD: dict[str, Any] = {"sub": "ada", "iat": NOW, "exp": NOW + 600, "aud": "mirage", "scope": "subscribe"}


def check(token: str, use: TokenUse = LOGIN, ring: KeyRing | None = None) -> Claims:
    """Verify as ingress does."""
    return (ring or KeyRing(SECRET)).verify(token, use, now_s=NOW, leeway_s=30, max_ttl_s=3600)


def made(claims: dict[str, Any], *, key: Any = SECRET, alg: str = "HS256", **header: Any) -> str:
    """Sign claims; None removes one."""
    body = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(body, key, algorithm=alg, headers={"kid": "shared", "typ": "JWT", **header})


def test_a_good_token_says_who_and_what() -> None:
    claims = check(made(GOOD))
    assert (claims.sub, claims.scopes) == ("ada", frozenset({"subscribe"}))


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "ubject"),
        ({"aud": "mirage:connect"}, "udience"),
        ({"aud": ["mirage"]}, "format"),
        ({"exp": NOW - 31, "iat": NOW - 600}, "expired"),
        ({"iat": NOW + 60}, "not valid yet"),
        ({"nbf": NOW + 60}, "not valid yet"),
        ({"exp": NOW + 3601}, "lives"),
        ({"exp": NOW, "iat": NOW}, "lives"),
        ({"exp": "soon"}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": float("inf")}, "exp"),
        ({"scope": ["subscribe"]}, "scope"),
        ({"jti": 7}, "ID must be"),
    ],
)
def test_wrong_claims_are_named(claims: dict[str, Any], says: str) -> None:
    with pytest.raises(Unauthenticated, match=says):
        check(made({**GOOD, **claims}))


def test_leeway_covers_clocks_that_differ() -> None:
    check(made({**GOOD, "exp": NOW - 29, "iat": NOW - 600}))
    check(made({**GOOD, "iat": NOW + 29}))


@pytest.mark.parametrize(
    "header", [{"kid": "other"}, {"kid": ["shared"]}, {"typ": "mirage-connect+jwt"}, {"typ": None}]
)
def test_wrong_headers_are_refused(header: dict[str, Any]) -> None:
    with pytest.raises((Unauthenticated, jwt.InvalidTokenError)):
        check(made(GOOD, **header))


def test_alg_none_is_refused() -> None:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    for alg in ("none", "None", "NONE"):
        with pytest.raises(Unauthenticated):
            check(f"{part({'alg': alg, 'typ': 'JWT', 'kid': 'shared'})}.{part(GOOD)}.")


def test_another_secret_another_algorithm_and_rubbish_are_refused() -> None:
    for token in (made(GOOD, key=b"x" * 32), made(GOOD, key=SECRET * 2, alg="HS512"), "", "a.b.c", "é.é.é", "." * 99):
        with pytest.raises(Unauthenticated):
            check(token)


def test_a_token_above_4_kb_is_refused_unread() -> None:
    with pytest.raises(Unauthenticated, match="4096"):
        check(made({**GOOD, "scope": "x" * 4096}))


def test_login_and_connect_tokens_do_not_pass_for_each_other() -> None:
    ring = KeyRing(SECRET)
    login = ring.login("ada", {"subscribe"}, now_s=NOW, ttl_s=60)
    ticket = ring.connect("ada", {"subscribe"}, "5" * 32, now_s=NOW, ttl_s=60, until=NOW + 99, parent="j")
    assert (check(ticket, CONNECT).until, check(ticket, CONNECT).parent) == (NOW + 99, "j")
    for token, use in ((login, CONNECT), (ticket, LOGIN)):
        with pytest.raises(Unauthenticated):
            check(token, use)


@pytest.mark.parametrize("alg", ["EdDSA", "ES256", "RS256"])
def test_an_issuers_key_is_bound_to_its_kid_and_algorithm_and_to_logins(alg: str) -> None:
    makers: dict[str, Callable[[], Any]] = {
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
    }
    private = makers[alg]()
    public = jwt.get_algorithm_by_name(alg).to_jwk(private.public_key(), as_dict=True)
    ring = KeyRing(SECRET, [{**public, "kid": "house", "alg": alg}])
    assert check(made(GOOD, key=private, alg=alg, kid="house"), ring=ring).sub == "ada"
    with pytest.raises(Unauthenticated):  # not under another name
        check(made(GOOD, key=private, alg=alg, kid="shared"), ring=ring)
    with pytest.raises(Unauthenticated, match="alg"):  # nor with another algorithm
        check(made(GOOD, kid="house"), ring=ring)
    ticket = {**GOOD, "aud": CONNECT.audience, "exp": NOW + 60}
    with pytest.raises(Unauthenticated, match="kid"):
        check(made(ticket, key=private, alg=alg, kid="house", typ=CONNECT.types[0]), CONNECT, ring)


def test_weak_or_nameless_keys_are_refused_at_start() -> None:
    with pytest.raises(Misconfigured, match="32"):
        KeyRing(b"x" * 31)
    with pytest.raises(Misconfigured, match="kid"):
        KeyRing(SECRET, [{"kty": "OKP"}])
    with pytest.raises(Misconfigured, match="HS256"):
        KeyRing(SECRET, [{"kty": "oct", "k": "eA", "kid": "house"}])


def test_a_role_passes_on_only_what_the_login_holds() -> None:
    assert granted(Role.PUBLISH, {"publish:audio", "subscribe", "ops"}) == ["publish:audio", "subscribe"]
    with pytest.raises(ScopeMissing):
        granted(Role.PUBLISH, {"subscribe", "control"})
    with pytest.raises(ScopeMissing):
        granted(Role.VIEW, {"publish:video"})
