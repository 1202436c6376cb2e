"""Runs the policy live, as the task of a `policy` worker: fold metrics, write decisions, keep a snapshot.

Decision IDs derive from their causes, so a service that was killed between a decision and its snapshot writes the same
decision under the same ID again, which the bus takes as success; anything else under that ID is a defect and stops it.
What an abandon leads to, the end of the session, comes between the two as well, and may be done twice.
"""

from collections.abc import Sequence

import structlog

from policy.driver import Driver
from policy.reducer import Decided
from policy.snapshot import pack, unpack
from schemas.bus.base import Entry
from schemas.decisions import Abandon, DropVideoUntil
from schemas.errors import CodecError, Conflict, Misconfigured
from schemas.events import EVENT
from schemas.ids import EntryId
from schemas.message import encode
from schemas.session_store import ABANDONED, SessionStore
from schemas.task import Lease, Source

log = structlog.get_logger(__name__)

_SNAPSHOT_EVERY = 200  # events without a decision; folding that many again takes under 2 ms


class PolicyTask:
    """Implements `SessionTask` on a session's metrics."""

    def __init__(self, lease: Lease, sessions: SessionStore) -> None:
        """Prepare; no I/O. `sessions` is where an abandoned session is ended."""
        self._lease, self._sessions = lease, sessions
        self._driver = Driver()
        self._since_snapshot = 0
        self._foreign = False

    @property
    def source(self) -> Source:
        """The session's metric events."""
        return Source(self._lease.planes.events, self._lease.keys.metrics)

    async def resume(self) -> EntryId:
        """Load the snapshot; go on after the last event folded into it."""
        fields = await self._lease.planes.events.get(self._lease.keys.snapshot)
        try:
            state = unpack(fields)
        except CodecError as error:
            log.warning("snapshot ignored, folding from the start", sid=self._lease.keys.sid, error=str(error))
            state = None
        self._driver = Driver(state)
        return EntryId(*self._driver.state.folded)

    async def handle(self, entries: Sequence[Entry]) -> None:
        """Fold every entry and write what it decides. A session of other rules is left as it was last decided."""
        for entry in entries:
            if self._foreign:
                return
            try:
                decisions = self._driver.fold(entry.id, entry.fields.get(EVENT, b""))
            except Misconfigured as refusal:  # it began under another build: nothing here can help it
                log.error("session left alone", sid=self._lease.keys.sid, error=str(refusal))  # noqa: TRY400 - no defect
                self._foreign = True
                return
            if self._driver.error is not None:
                sid, error = self._lease.keys.sid, str(self._driver.error)
                log.warning("unreadable metric", sid=sid, id=str(entry.id), error=error)
            for decided in decisions:
                await self._write(decided)
                await self._act(decided)
            self._since_snapshot += 1
            if decisions or self._since_snapshot >= _SNAPSHOT_EVERY:
                await self._save()

    async def _write(self, decided: Decided) -> None:
        decision_id, decision = decided
        events, stream = self._lease.planes.events, self._lease.keys.policy
        data = encode(decision)
        if await events.publish(stream, decision_id, {EVENT: data}, fence=self._lease.fence):
            # A session that stays late gets a new floor with every chunk.
            say = log.debug if isinstance(decision, DropVideoUntil) else log.info
            say("decided", sid=self._lease.keys.sid, id=str(decision_id), rule=decision.rule)
            return
        standing = await events.entries(stream, until=decision_id, count=1, newest_first=True)
        if not standing or standing[0].fields[EVENT] != data:
            raise Conflict(f"decision {decision_id} of {self._lease.keys.sid} stands with other content")

    async def _act(self, decided: Decided) -> None:
        """Do what a decision asks of policy itself: everyone else reads it on the stream."""
        if isinstance(decided[1], Abandon):
            await self._sessions.end(self._lease.keys.sid, ABANDONED)

    async def _save(self) -> None:
        await self._lease.planes.events.put(self._lease.keys.snapshot, pack(self._driver.state))
        self._since_snapshot = 0

    def end(self) -> None:
        """Nothing changes: what happened is folded to the last event."""

    async def close(self) -> None:
        """Nothing to release; the snapshot on the server may be old, never wrong."""
