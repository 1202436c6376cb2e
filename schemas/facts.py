"""Facts about a session, on its control stream: what people and administrators did."""

from schemas.events import ConsentRevoked, SessionEnded
from schemas.message import Family, Message


class SessionCreated(Message, frozen=True, kw_only=True):
    """The session exists."""

    owner: str
    faces: tuple[str, ...] = ()
    voice: str = ""


class SettingsChanged(Message, frozen=True, kw_only=True):
    """The publisher changed what may be changed live. Absent fields stay as they are."""

    faces: tuple[str, ...] | None = None
    face: str | None = None
    """What 0.1.0 wrote in place of `faces`."""
    voice: str | None = None
    fidelity_pm: int | None = None
    """How close an enhancer keeps to the swapped face, per mille."""


class PanicSet(Message, frozen=True, kw_only=True):
    """The publisher's panic key: nothing of the session is shown or heard while it is on."""

    on: bool


ControlFact = SessionCreated | SettingsChanged | PanicSet | ConsentRevoked | SessionEnded

control_facts: Family[ControlFact] = Family(ControlFact)
