"""A live change of identity: checked like the first one, then a fact that the workers follow."""

from ingress.control import SettingsWish
from ingress.services import Services
from schemas.consent import require_consent
from schemas.events import EVENT
from schemas.facts import SettingsChanged
from schemas.message import encode
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord


async def change_settings(services: Services, record: SessionRecord, wish: SettingsWish) -> None:
    """Let the session wear what `wish` names.

    Raises `NotFound` or `Refused` when the owner may not wear it, `BusUnavailable`; nothing has changed then.
    """
    now_ms = await services.planes.events.now_ms()
    ends_ms = []
    for kind, identity_id in (("face", wish.face), ("voice", wish.voice)):
        if identity_id:
            identity = await services.identities.load(identity_id)
            require_consent(identity, kind=kind, wearer=record.owner, now_ms=now_ms, recorded=record.record)
            ends_ms.append(identity.consent.expires_ms)
    if ends_ms:
        await services.sessions.limit(record.sid, expires_ms=min(ends_ms))
    fidelity_pm = None if wish.fidelity is None else round(wish.fidelity * 1000)
    fact = SettingsChanged(face=wish.face, voice=wish.voice, fidelity_pm=fidelity_pm)
    await services.planes.events.append(SessionKeys(record.sid).control, {EVENT: encode(fact)})
