"""Whom a session is to wear, as its owner says it: one identity for every face, or one for each."""

from collections.abc import Sequence

from ingress.services import Services
from schemas.consent import require_consent
from schemas.errors import InputRejected


def followed(face: str | None, faces: Sequence[str] | None, *, max_faces: int) -> tuple[str, ...] | None:
    """Return the identities of the followed faces, in the order of appearance; None where nothing was said of faces.

    `face` is worn by all `max_faces` of them, `faces` by one each; empty takes them off. Raises `InputRejected`.
    """
    if faces is None:
        return None if face is None else (face,) * max_faces if face else ()
    if face is not None:
        raise InputRejected("face is worn by every face, faces by one each: give one of the two", code="invalid")
    if "" in faces:
        raise InputRejected("faces has an empty ID; leave it out, or give an empty list to wear none", code="invalid")
    if len(faces) > max_faces:
        raise InputRejected(f"faces names {len(faces)} identities; this session follows {max_faces}", code="invalid")
    return tuple(faces)


async def consents_end_ms(
    services: Services, faces: Sequence[str], voice: str, *, wearer: str, recorded: bool, now_ms: int
) -> int | None:
    """Return when the first of these consents ends; None where nobody is worn. Times are the server's.

    Raises `NotFound` for an unknown identity, `Refused` where `wearer` has no consent, or none to be `recorded`.
    """
    ends_ms = []
    worn = [("face", face) for face in dict.fromkeys(faces)] + [("voice", voice)] * bool(voice)
    for kind, identity_id in worn:
        identity = await services.identities.load(identity_id)
        require_consent(identity, kind=kind, wearer=wearer, now_ms=now_ms, recorded=recorded)
        ends_ms.append(identity.consent.expires_ms)
    return min(ends_ms, default=None)
