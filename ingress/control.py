"""What a client may say in text: JSON objects with `type`. Each says which scope it needs."""

from typing import Annotated, ClassVar

import msgspec

from ingress.tokens import Scope
from schemas.errors import InputRejected

MAX_CONTROL_BYTES = 8192
"""A refreshed token may have 4 KB."""

_MOST = 1 << 53  # beyond it JSON numbers are not whole any more
_Time = Annotated[int, msgspec.Meta(ge=-_MOST, le=_MOST)]
_Amount = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=str.lower):
    """A control message."""


class PlaybackReport(_Control, frozen=True, kw_only=True, tag="playback"):
    """How the client's player stands, in its own media times. Counts for the publisher only."""

    NEEDS: ClassVar[Scope | None] = Scope.SUBSCRIBE
    audio_us: _Time
    video_us: _Time
    buffered_us: _Amount
    underruns: _Amount
    e2e_us: _Amount


class SettingsWish(_Control, frozen=True, kw_only=True, tag="settings"):
    """Wear other identities from now on, or tune how; an empty ID takes one off, what is absent stays."""

    NEEDS: ClassVar[Scope | None] = Scope.CONTROL
    face: str | None = None
    """Worn by every face that is followed."""
    faces: list[str] | None = None
    """One for each face that is followed; those beyond follow `bystanders`."""
    voice: str | None = None
    fidelity: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    """CodeFormer's, where it runs: higher keeps closer to the swapped face."""


class PanicKey(_Control, frozen=True, kw_only=True, tag="panic"):
    """Show and play nothing of the session while it is on."""

    NEEDS: ClassVar[Scope | None] = Scope.CONTROL
    on: bool


class TokenRefresh(_Control, frozen=True, kw_only=True, tag="refresh"):
    """A newer connect token, before the right to be connected runs out."""

    NEEDS: ClassVar[Scope | None] = None
    token: str


ClientMessage = PlaybackReport | SettingsWish | PanicKey | TokenRefresh

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


def parse(text: str) -> ClientMessage:
    """Read a control message; raises `InputRejected` (`bad_message`) that says what is wrong with it."""
    if len(text) > MAX_CONTROL_BYTES:
        raise InputRejected(f"control message of {len(text)} characters; at most {MAX_CONTROL_BYTES}", code="too_large")
    try:
        return _decoder.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InputRejected(f"not a control message: {error}", code="bad_message") from None
