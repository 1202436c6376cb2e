"""Identities and the consent they rest on. An identity without a consent record does not exist."""

from typing import ClassVar

import msgspec

from schemas.errors import Refused
from schemas.message import Count, Family, Message

ANYONE = "*"


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What shows that the subject agreed. For now an operator's recorded attestation."""

    kind: str = "operator_attestation"
    statement: str
    by: str
    sha256: str = ""
    """Hash of a signed form or recording that is kept elsewhere."""


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """Who allowed what, to whom, until when."""

    subject: str
    """Whose face or voice it is."""
    granted_to: str
    """Token subject that may wear it; `*` for anyone (public-domain material)."""
    scope: tuple[str, ...]
    """Of `face`, `voice`, `live`, `record`."""
    purpose: str
    expires_ms: Count
    """Wall time in ms since the epoch."""
    evidence: Evidence

    SCOPES: ClassVar[frozenset[str]] = frozenset({"face", "voice", "live", "record"})

    def __post_init__(self) -> None:
        """Refuse a record that says nothing; raises ValueError naming the field."""
        for name in ("subject", "granted_to", "purpose"):
            if not getattr(self, name).strip():
                raise ValueError(f"consent.{name} is empty")
        if not self.evidence.statement.strip() or not self.evidence.by.strip():
            raise ValueError("consent.evidence needs a statement and who made it (by)")
        unknown = set(self.scope) - self.SCOPES
        if unknown or not self.scope:
            raise ValueError(f"consent.scope is {list(self.scope)}; expected some of {sorted(self.SCOPES)}")


class Identity(Message, frozen=True, kw_only=True):
    """A face, a voice or both, that may be worn under its consent."""

    id: str
    label: str
    kinds: tuple[str, ...]
    """`face`, `voice`."""
    owner: str
    created_ms: Count
    consent: Consent
    revoked: bool = False


identities: Family[Identity] = Family(Identity)


def require_consent(identity: Identity, *, kind: str, wearer: str, now_ms: int, recorded: bool = False) -> None:
    """Check that `wearer` may wear `identity` as `kind` live, now; raises `Refused` that names what is missing."""
    consent = identity.consent
    if identity.revoked:
        raise Refused(f"consent for identity {identity.id} was revoked")
    if now_ms >= consent.expires_ms:
        raise Refused(f"consent for identity {identity.id} has expired")
    if kind not in identity.kinds:
        raise Refused(f"identity {identity.id} has no {kind}; it has {', '.join(identity.kinds)}")
    needed = {kind, "live"} | ({"record"} if recorded else set())
    if missing := needed - set(consent.scope):
        raise Refused(f"consent for identity {identity.id} does not cover {', '.join(sorted(missing))}")
    if consent.granted_to not in (ANYONE, wearer):
        raise Refused(f"identity {identity.id} was not granted to {wearer}")
