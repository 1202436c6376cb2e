"""The contract between the runner, which owns leases, and the tasks it drives, which own the work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.bus.base import Bus, Entry, Fence, Planes
from schemas.clock import Clock
from schemas.ids import EntryId
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one session's work of one kind: what a task needs to know of it."""

    kind: Kind
    keys: SessionKeys
    session: SessionRecord
    worker: str
    fence: Fence
    planes: Planes
    clock: Clock

    @property
    def epoch(self) -> int:
        """The epoch that this lease's writes carry."""
        return self.fence.epoch


@dataclass(frozen=True, slots=True)
class Source:
    """The stream that a task consumes."""

    bus: Bus
    stream: str


class SessionTask(Protocol):
    """One session's work of one kind, made anew for every lease. The runner drives it from one coroutine.

    Any method may raise `Fenced` (the lease is lost: the task is closed and forgotten) or `BusUnavailable` (the task
    is closed and a new one is made from the checkpoint, once the server answers).
    """

    @property
    def source(self) -> Source:
        """Where the input comes from."""
        ...

    async def resume(self) -> EntryId:
        """Repair what a predecessor left undone and return the checkpoint: the last input that is settled."""
        ...

    async def handle(self, entries: Sequence[Entry]) -> None:
        """Settle new input, oldest first."""
        ...

    def end(self) -> None:
        """Take notice that the session is over: from now on input is settled without publishing anything."""
        ...

    async def close(self) -> None:
        """Release what the task holds. Called once, also after an error."""
        ...


class TaskFactory(Protocol):
    """Makes the task for a lease. Wired in `ops`."""

    def __call__(self, lease: Lease) -> SessionTask:
        """Return a new task; does no I/O."""
        ...
