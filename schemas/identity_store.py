"""Where identities live: one hash each on the events plane, with the consent record, sources and templates."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.bus.base import Bus
from schemas.consent import Identity, identities
from schemas.errors import CodecError, NotFound
from schemas.message import encode
from schemas.names import IDENTITIES, identity

_RECORD = b"record"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What becomes of a portrait or a voice reference: the source as kept, and templates by engine name."""

    source: bytes
    """PNG bytes, or PCM16 mono 16 kHz."""
    templates: Mapping[str, bytes]


class Enroller(Protocol):
    """Turns uploads into enrolments, away from the event loop. Wired in `ops`.

    Both methods raise `EnrolmentRefused` that says what is wrong with the upload and what is accepted.
    """

    async def face(self, image: bytes) -> Enrolment:
        """Enrol a portrait: JPEG or PNG with exactly one frontal face."""
        ...

    async def voice(self, sound: bytes) -> Enrolment:
        """Enrol a voice: WAV, PCM16, any common rate, at least 10 s of speech."""
        ...


class IdentityStore:
    """Reads and writes identities."""

    def __init__(self, events: Bus) -> None:
        """Use the events plane."""
        self._events = events

    async def add(self, record: Identity, *, face: Enrolment | None, voice: Enrolment | None) -> None:
        """Write an identity, whole."""
        fields = {_RECORD: encode(record)}
        for kind, enrolment in (("face", face), ("voice", voice)):
            if enrolment is not None:
                fields[f"{kind}.source".encode()] = enrolment.source
                fields |= {f"{kind}.{engine}".encode(): blob for engine, blob in enrolment.templates.items()}
        await self._events.put(identity(record.id), fields)
        await self._events.put(IDENTITIES, {record.id.encode(): b"%d" % record.created_ms})

    async def load(self, identity_id: str) -> Identity:
        """Return the record; raises `NotFound`."""
        fields = await self._events.get(identity(identity_id), [_RECORD])
        if _RECORD not in fields:
            raise NotFound(f"no identity {identity_id}")
        return identities.decode(fields[_RECORD])

    async def template(self, identity_id: str, kind: str, engine: str) -> bytes:
        """Return the template of `kind` (`face`, `voice`) for `engine`; raises `NotFound`."""
        name = f"{kind}.{engine}".encode()
        try:
            return (await self._events.get(identity(identity_id), [name]))[name]
        except KeyError:
            raise NotFound(f"identity {identity_id} has no {kind} template for engine {engine}") from None

    async def everyone(self) -> list[Identity]:
        """Return every identity, oldest first; one that is gone or that a newer build wrote is left out."""
        index = await self._events.get(IDENTITIES)
        found = []
        for name in sorted(index, key=lambda name: int(index[name])):
            with contextlib.suppress(NotFound, CodecError):
                found.append(await self.load(name.decode()))
        return found

    async def revoke(self, identity_id: str) -> Identity:
        """Forget the sources and templates, keep the record as revoked; returns it. Raises `NotFound`."""
        record = await self.load(identity_id)
        key = identity(identity_id)
        fields = await self._events.get(key)  # whole: their names are not known otherwise
        fresh = Identity(
            id=record.id,
            label=record.label,
            kinds=record.kinds,
            owner=record.owner,
            created_ms=record.created_ms,
            consent=record.consent,
            revoked=True,
        )
        await self._events.put(key, {_RECORD: encode(fresh)})
        await self._events.drop_fields(key, [name for name in fields if name != _RECORD])
        return fresh
