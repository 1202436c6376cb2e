"""REST for identities: enrol with consent, list, look at, revoke."""

import asyncio
import secrets
import unicodedata
from datetime import UTC, date, datetime
from typing import Annotated, Any

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request

from ingress.services import Services
from ingress.tokens import Claims, Scope
from ingress.uploads import read_form
from schemas.consent import ANYONE, Consent, Evidence, Identity
from schemas.errors import InputRejected, Refused, Throttled

log = structlog.get_logger(__name__)

_MAX_LABEL = 80
_MAX_UPLOADS = 4
"""Uploads in memory at a time, all of them together."""


class ConsentForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `consent` field of an enrolment. `expires` (ISO date or time, UTC) or `expires_ms` says until when."""

    subject: str
    scope: tuple[str, ...]
    purpose: str
    evidence: Evidence
    """Its `by` is always whoever enrols."""
    granted_to: str = ""
    """Empty: whoever enrols."""
    expires: str = ""
    expires_ms: int | None = None


_forms = msgspec.json.Decoder(ConsentForm)


def identities_router(services: Services) -> APIRouter:
    """Return the routes under `/v1/identities`."""
    router = APIRouter(prefix="/v1/identities")
    store, settings = services.identities, services.settings
    uploads = asyncio.Semaphore(_MAX_UPLOADS)
    Caller = Annotated[Claims, Depends(services.authority.bearer)]  # noqa: N806  # a type, made from a collaborator

    @router.post("", status_code=201)
    async def enrol(request: Request, caller: Caller) -> dict[str, Any]:
        caller.need(Scope.IDENTITY)
        if uploads.locked():
            raise Throttled(f"{_MAX_UPLOADS} uploads are under way", retry_after_ms=5_000)
        async with uploads:
            return as_json(await take(request, caller))

    async def take(request: Request, caller: Claims) -> Identity:
        limits = {"portrait": settings.max_portrait_bytes, "voice": settings.max_voice_bytes}
        fields, files = await read_form(request, max_files=limits)
        kinds = tuple(kind for kind, name in (("face", "portrait"), ("voice", "voice")) if name in files)
        if not kinds:
            raise InputRejected("send a file as portrait, as voice, or both", code="invalid")
        now_ms = services.clock.now_ms()
        consent = parse_consent(fields.get("consent", ""), kinds, enroller=caller.sub, now_ms=now_ms)
        identity = Identity(
            id=secrets.token_hex(16),
            label=_plain(fields.get("label", ""))[:_MAX_LABEL] or consent.subject[:_MAX_LABEL],
            kinds=kinds,
            owner=caller.sub,
            created_ms=now_ms,
            consent=consent,
        )
        face = await services.enroller.face(files["portrait"]) if "portrait" in files else None
        voice = await services.enroller.voice(files["voice"]) if "voice" in files else None
        await store.add(identity, face=face, voice=voice)
        log.info("identity enrolled", identity=identity.id, kinds=kinds, owner=caller.sub)
        return identity

    @router.get("")
    async def visible(caller: Caller) -> list[dict[str, Any]]:
        return [as_json(identity) for identity in await store.everyone() if _sees(caller, identity)]

    @router.get("/{identity_id}")
    async def one(identity_id: str, caller: Caller) -> dict[str, Any]:
        identity = await store.load(identity_id)
        if not _sees(caller, identity):
            raise Refused(f"identity {identity_id} is not yours, and was not granted to you")
        return as_json(identity)

    @router.delete("/{identity_id}")
    async def revoke(identity_id: str, caller: Caller) -> dict[str, Any]:
        caller.need(Scope.IDENTITY)
        identity = await store.load(identity_id)
        if identity.owner != caller.sub and Scope.OPS not in caller.scopes:
            raise Refused(f"identity {identity_id} belongs to someone else")
        revoked = await store.revoke(identity_id)
        ended = await services.sessions.end_wearing(identity_id)
        log.info("consent revoked", identity=identity_id, by=caller.sub, ended=ended)
        return {**as_json(revoked), "ended": ended}

    return router


def as_json(identity: Identity) -> dict[str, Any]:
    """Return what a client may know of an identity: never its sources or templates."""
    return {
        "id": identity.id,
        "label": identity.label,
        "kinds": list(identity.kinds),
        "owner": identity.owner,
        "subject": identity.consent.subject,
        "granted_to": identity.consent.granted_to,
        "scope": list(identity.consent.scope),
        "purpose": identity.consent.purpose,
        "expires": datetime.fromtimestamp(identity.consent.expires_ms / 1000, UTC).isoformat(),
        "expires_ms": identity.consent.expires_ms,
        "revoked": identity.revoked,
    }


def _sees(caller: Claims, identity: Identity) -> bool:
    return Scope.OPS in caller.scopes or identity.owner == caller.sub or _granted(caller, identity)


def _granted(caller: Claims, identity: Identity) -> bool:
    return not identity.revoked and identity.consent.granted_to in (ANYONE, caller.sub)


def parse_consent(text: str, kinds: tuple[str, ...], *, enroller: str, now_ms: int) -> Consent:
    """Read the `consent` field; raises `InputRejected` (`bad_consent`) that says what is missing."""
    if not text:
        raise InputRejected("an identity needs consent: send it as JSON in the field `consent`", code="bad_consent")
    try:
        form = _forms.decode(text)
        expires_ms = _expiry_ms(form)
        consent = Consent(
            subject=_plain(form.subject),
            granted_to=form.granted_to or enroller,
            scope=form.scope,
            purpose=form.purpose,
            expires_ms=expires_ms,
            evidence=msgspec.structs.replace(form.evidence, by=enroller),
        )
    except (msgspec.DecodeError, ValueError, OverflowError) as error:
        raise InputRejected(f"consent is not complete: {error}", code="bad_consent") from None
    if expires_ms <= now_ms:
        raise InputRejected("consent.expires is in the past", code="bad_consent")
    if missing := set(kinds) - set(consent.scope):
        raise InputRejected(f"consent.scope does not cover {', '.join(sorted(missing))}", code="bad_consent")
    return consent


def _plain(text: str) -> str:
    """Return `text` without characters that nobody sees, and that may turn what stands around it."""
    return "".join(each for each in text if unicodedata.category(each) not in ("Cc", "Cf")).strip()


def _expiry_ms(form: ConsentForm) -> int:
    """Return when consent ends. A date stands for its first moment in UTC; a time without zone is UTC."""
    if form.expires_ms is not None:
        datetime.fromtimestamp(form.expires_ms / 1000, UTC)  # a year that nobody can print is refused here
        return form.expires_ms
    try:
        day = date.fromisoformat(form.expires)
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC)
    except ValueError:
        try:
            moment = datetime.fromisoformat(form.expires)
        except ValueError:
            raise ValueError(f"expires is {form.expires[:40]!r}; expected a date like 2027-01-31") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
