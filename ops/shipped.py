"""The identities that ship with Mirage, so that a newcomer can press Start: public material with its consent record."""

import asyncio
import json
from dataclasses import dataclass

from ops.enrolment import enrol_face, enrol_voice
from ops.shipped_media import media_file
from schemas.bus.base import Bus
from schemas.consent import ANYONE, Consent, Evidence, Identity
from schemas.errors import NotFound
from schemas.identity_store import IdentityStore

_FOREVER_MS = 4_102_444_800_000  # 2100-01-01: the public domain does not expire, and every consent names an end


@dataclass(frozen=True, slots=True)
class ShippedIdentity:
    """One file of `ops/media` that anyone may wear."""

    id: str
    label: str
    kind: str
    file: str


SHIPPED = (
    ShippedIdentity("shipped-portrait", "Demo face (NASA portrait)", "face", "portrait.png"),
    ShippedIdentity("shipped-voice-a", "Demo voice A (LibriVox)", "voice", "speaker_a.wav"),
    ShippedIdentity("shipped-voice-b", "Demo voice B (silero-vad)", "voice", "speaker_b.wav"),
)


def public_consent(kind: str, file: str) -> Consent:
    """Return the consent record of a shipped file: anyone may wear it, live and recorded."""
    about = json.loads(media_file("manifest.json").read_text("utf-8"))[file]
    return Consent(
        subject=about["subject"],
        granted_to=ANYONE,
        scope=(kind, "live", "record"),
        purpose="demonstration and tests",
        expires_ms=_FOREVER_MS,
        evidence=Evidence(kind="public_licence", statement=about["statement"], by=about["licence"]),
    )


async def add_shipped(events: Bus, owner: str) -> None:
    """Add what is not there yet. One that was revoked stays revoked."""
    store = IdentityStore(events)
    for shipped in SHIPPED:
        try:
            await store.load(shipped.id)
        except NotFound:
            upload = media_file(shipped.file).read_bytes()
            enrol = enrol_face if shipped.kind == "face" else enrol_voice
            enrolment = await asyncio.to_thread(enrol, upload)
            record = Identity(
                id=shipped.id,
                label=shipped.label,
                kinds=(shipped.kind,),
                owner=owner,
                created_ms=await events.now_ms(),
                consent=public_consent(shipped.kind, shipped.file),
            )
            face, voice = (enrolment, None) if shipped.kind == "face" else (None, enrolment)
            await store.add(record, face=face, voice=voice)
