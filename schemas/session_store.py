"""A session's record and its life: created once, pushed on by traffic, ended once by whoever notices."""

from dataclasses import dataclass

import msgspec

from schemas.bus.base import Entry, Planes
from schemas.errors import CodecError, NotFound
from schemas.events import EVENT, ConsentRevoked, SessionEnded, SessionStarted
from schemas.facts import ControlFact, SessionCreated, SettingsChanged, control_facts
from schemas.message import Count, Family, Message, encode
from schemas.names import SESSIONS, Kind, SessionKeys
from schemas.policy_config import PolicyConfig

_RECORD, _DEADLINE, _EXPIRES, _ENDED = b"record", b"deadline_ms", b"expires_ms", b"ended"
WORK = (Kind.VIDEO, Kind.VOICE, Kind.POLICY)
"""Kinds of worker that every session wants."""
ABANDONED = "abandoned"
"""Why a session ended that the policy gave up."""


class SessionRecord(Message, frozen=True, kw_only=True):
    """What a session was created with."""

    sid: str
    owner: str
    faces: tuple[str, ...] = ()
    """Identities whose faces are worn, one for each face that is followed; empty covers every face."""
    face: str = ""
    """What 0.1.0 wrote in place of `faces`. It is not worn any more, but found by a revocation."""
    voice: str = ""
    """Identity whose voice is worn; empty silences."""
    max_faces: Count = 1
    on_miss: str = "blur"
    bystanders: str = "blur"
    on_voice_fail: str = "silence"
    """`silence`, or `passthrough` where the owner's scope allows it."""
    record: bool = False
    """Whether media and events are archived."""
    chunk_ms: Count = 192
    created_ms: Count
    expires_ms: Count
    """Consent of the identities ends here, and the session with it."""
    config: PolicyConfig = PolicyConfig()


_records: Family[SessionRecord] = Family(SessionRecord)


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it stands."""

    record: SessionRecord
    deadline_ms: int
    ended: str | None
    """Why it ended; None while it lives."""

    def over(self, now_ms: int) -> str | None:
        """Return why the session should be treated as ended at `now_ms` (server time); None while it lives."""
        if self.ended is not None:
            return self.ended
        if now_ms >= self.record.expires_ms:
            return "consent_expired"
        return "idle" if now_ms >= self.deadline_ms else None


class SessionStore:
    """Reads and writes sessions."""

    def __init__(self, planes: Planes, *, media_retention_s: int = 15, event_ttl_s: int = 3600) -> None:
        """Keep ended sessions' media and events for the given seconds."""
        self._media, self._events = planes.media, planes.events
        self._media_ttl_ms, self._event_ttl_ms = media_retention_s * 1000, event_ttl_s * 1000

    async def create(self, record: SessionRecord, *, deadline_ms: int) -> None:
        """Write the session and ask for its workers."""
        keys = SessionKeys(record.sid)
        await self._events.put(keys.session, {_RECORD: encode(record), _DEADLINE: b"%d" % deadline_ms})
        await self._events.put(SESSIONS, {record.sid.encode(): b"%d" % record.created_ms})
        started = SessionStarted(config=record.config, chunk_ms=record.chunk_ms, at_us=record.created_ms * 1000)
        await self._events.append(keys.metrics, {EVENT: encode(started)})
        created = SessionCreated(owner=record.owner, faces=record.faces, voice=record.voice)
        await self._events.append(keys.control, {EVENT: encode(created)})
        for kind in (*WORK, Kind.RECORD) if record.record else WORK:
            await self._events.offer(kind, record.sid)

    async def load(self, sid: str) -> Session:
        """Return the session; raises `NotFound`."""
        fields = await self._events.get(SessionKeys(sid).session)
        if _RECORD not in fields:
            raise NotFound(f"no session {sid}")
        ended = fields.get(_ENDED)
        record = _records.decode(fields[_RECORD])
        if _EXPIRES in fields:
            record = msgspec.structs.replace(record, expires_ms=min(record.expires_ms, int(fields[_EXPIRES])))
        return Session(
            record,
            int(fields.get(_DEADLINE, b"0")),
            None if ended is None else ended.decode(),
        )

    async def touch(self, sid: str, *, deadline_ms: int) -> None:
        """Push the deadline on."""
        await self._events.put(SessionKeys(sid).session, {_DEADLINE: b"%d" % deadline_ms})

    async def limit(self, sid: str, *, expires_ms: int) -> None:
        """End the session no later than this: it wears an identity now whose consent ends then."""
        until = min((await self.load(sid)).record.expires_ms, expires_ms)
        await self._events.put(SessionKeys(sid).session, {_EXPIRES: b"%d" % until})

    async def end(self, sid: str, reason: str) -> bool:
        """End the session; returns whether this call did. Everyone may try, one succeeds, the reason is the first's.

        Whoever comes later finishes what a first one did not live to do: telling the workers, and letting keys expire.
        """
        keys = SessionKeys(sid)
        first = await self._events.put_once(keys.session, _ENDED, reason.encode())
        last = await self._events.entries(keys.control, count=1, newest_first=True)
        if not last or not isinstance(_fact(last[0]), SessionEnded):
            stands = await self._events.get(keys.session, [_ENDED])
            ended = {EVENT: encode(SessionEnded(reason=stands[_ENDED].decode()))}
            await self._events.append(keys.metrics, ended)
            await self._events.append(keys.control, ended)
        await self._events.drop_fields(SESSIONS, [sid.encode()])
        await self._events.expire(keys.events_plane, ttl_ms=self._event_ttl_ms)
        await self._media.expire(keys.media_plane, ttl_ms=self._media_ttl_ms)
        return first

    async def live(self) -> list[str]:
        """Return the IDs of sessions that have not ended, oldest first."""
        index = await self._events.get(SESSIONS)
        return [name.decode() for name in sorted(index, key=lambda name: int(index[name]))]

    async def worn(self, sid: str) -> set[str]:
        """Return the identities that a session wears now: as created, and as changed since.

        Empty when it is gone, or written by a newer build.
        """
        try:
            record = (await self.load(sid)).record
        except (NotFound, CodecError):
            return set()
        faces, voice = (*record.faces, record.face), record.voice
        for entry in await self._events.entries(SessionKeys(sid).control):
            fact = _fact(entry)
            if isinstance(fact, SettingsChanged):
                faces = faces if fact.faces is None else fact.faces
                faces = faces if fact.face is None else (fact.face,)
                voice = voice if fact.voice is None else fact.voice
        return {*faces, voice} - {""}

    async def end_wearing(self, identity_id: str) -> list[str]:
        """End every live session that wears a revoked identity; returns their IDs."""
        revoked = {EVENT: encode(ConsentRevoked(identity=identity_id))}
        ended = []
        for sid in await self.live():
            if identity_id not in await self.worn(sid):
                continue
            keys = SessionKeys(sid)
            await self._events.append(keys.control, revoked)
            await self._events.append(keys.metrics, revoked)
            if await self.end(sid, "consent_revoked"):
                ended.append(sid)
        return ended


def _fact(entry: Entry) -> ControlFact | None:
    """Return the fact of a control entry; None for one that a newer writer wrote."""
    try:
        return control_facts.decode(entry.fields.get(EVENT, b""))
    except CodecError:
        return None
