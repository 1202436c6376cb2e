"""Who may make a recording of a session that nobody asked to record: whoever its identities consented to."""

from collections.abc import Iterable

from ops.archive.live import KeptSession
from schemas.bus.base import Bus, Entry
from schemas.consent import require_consent
from schemas.errors import CodecError, NotFound, Refused
from schemas.events import EVENT
from schemas.facts import SettingsChanged, control_facts
from schemas.identity_store import IdentityStore
from schemas.session_store import SessionRecord


async def require_copy_consent(session: KeptSession, events: Bus) -> None:
    """Check that pictures and sound of a session on its streams may be kept in a file.

    Every face and voice that it wore must allow `record` now; raises `Refused` that names the one that does not.
    """
    record, store, now_ms = session.record, IdentityStore(events), await events.now_ms()
    for kind, identity_id in sorted(_worn(record, session.entries("control"))):
        try:
            identity = await store.load(identity_id)
            require_consent(identity, kind=kind, wearer=record.owner, now_ms=now_ms, recorded=True)
        except (NotFound, Refused) as error:
            raise Refused(f"{error}; --events-only exports it without pictures and sound") from None


def _worn(record: SessionRecord, control: Iterable[Entry]) -> set[tuple[str, str]]:
    """Return (kind, identity) of everything that the session wore, as its record and its facts tell."""
    pairs = {("voice", record.voice), *(("face", face) for face in (*record.faces, record.face))}
    for entry in control:
        try:
            fact = control_facts.decode(entry.fields.get(EVENT, b""))
        except CodecError:
            continue
        if isinstance(fact, SettingsChanged):
            pairs |= {("voice", fact.voice or ""), *(("face", face) for face in (*(fact.faces or ()), fact.face or ""))}
    return {(kind, identity_id) for kind, identity_id in pairs if identity_id}
