"""A live change of identity: checked like the first one, then a fact that the workers follow."""

from ingress.control import SettingsWish
from ingress.services import Services
from ingress.wearing import consents_end_ms, followed
from schemas.events import EVENT
from schemas.facts import SettingsChanged
from schemas.message import encode
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord


async def change_settings(services: Services, record: SessionRecord, wish: SettingsWish) -> None:
    """Let the session wear what `wish` names.

    Raises `NotFound` or `Refused` when the owner may not wear it, `InputRejected` for faces that cannot be worn so,
    `BusUnavailable`; nothing has changed then.
    """
    faces = followed(wish.face, wish.faces, max_faces=record.max_faces)
    now_ms = await services.planes.events.now_ms()
    ends_ms = await consents_end_ms(
        services, faces or (), wish.voice or "", wearer=record.owner, recorded=record.record, now_ms=now_ms
    )
    if ends_ms is not None:
        await services.sessions.limit(record.sid, expires_ms=ends_ms)
    fidelity_pm = None if wish.fidelity is None else round(wish.fidelity * 1000)
    fact = SettingsChanged(faces=faces, voice=wish.voice, fidelity_pm=fidelity_pm)
    await services.planes.events.append(SessionKeys(record.sid).control, {EVENT: encode(fact)})
