"""What the parts of one ingress share. Built once, in `create_app`."""

from dataclasses import dataclass

from ingress.auth import Authority
from ingress.hub import Hub
from ingress.metrics import EventWriter
from ingress.settings import IngressSettings
from schemas.bus.base import Planes
from schemas.clock import Clock
from schemas.identity_store import Enroller, IdentityStore
from schemas.session_store import SessionStore


@dataclass(frozen=True, slots=True)
class Services:
    """Collaborators, all of them."""

    planes: Planes
    settings: IngressSettings
    clock: Clock
    authority: Authority
    sessions: SessionStore
    identities: IdentityStore
    enroller: Enroller
    hub: Hub
    metrics: EventWriter
    """Metric events: the oldest may be lost when the events plane is away for long."""
    facts: EventWriter
    """Panic: written behind its effect in this process."""
