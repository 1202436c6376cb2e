"""What the parts of one connection share: who it is, what it may do, what waits for it, and how it ends."""

import asyncio
import json
import secrets
from typing import Any

from ingress.egress import SessionFeed
from ingress.outbox import Outbox
from ingress.publisher import Publisher
from ingress.services import Services
from ingress.tokens import Claims
from schemas.errors import MirageError
from schemas.events import Backlog, FrameRejected, FrameThinned, Playback, RateLimited, TokenExpired
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord

GONE = 0
"""Stands for a close code when the client has left by itself."""
INTERNAL = 1011


class Peer:
    """A client of a session. A publisher has a `Publisher`; a viewer has none."""

    def __init__(
        self,
        *,
        record: SessionRecord,
        claims: Claims,
        feed: SessionFeed,
        publisher: Publisher | None,
        services: Services,
    ) -> None:
        """Take what the upgrade has found out. Needs a running event loop."""
        self.record, self.claims = record, claims
        self.feed, self.publisher, self.services = feed, publisher, services
        self.keys = SessionKeys(record.sid)
        self.outbox = Outbox(services.settings.outbox_audio)
        self.ending: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self.producer = f"ingress:{secrets.token_hex(6)}"
        self.traffic = False
        """Whether something was accepted since the session's deadline was pushed on."""
        self.lost = 0
        """Messages that were received but not published since the client was last told."""
        self.fault: MirageError | None = None
        """The last reason for that."""
        self._events = 0

    def tell(self, message: dict[str, Any]) -> None:
        """Queue a control message."""
        self.outbox.control(json.dumps(message, separators=(",", ":")))

    def finish(self, code: int, reason: str) -> None:
        """End the connection; the first call decides how."""
        if not self.ending.done():
            self.ending.set_result((int(code), reason))

    def next_seq(self) -> int:
        """Return the number of this connection's next metric event."""
        self._events += 1
        return self._events - 1

    def note(self, event: FrameRejected | FrameThinned | RateLimited | TokenExpired | Playback | Backlog) -> None:
        """Queue a metric event."""
        if self.feed.ended is None:
            self.services.metrics.put(self.keys.metrics, event)
