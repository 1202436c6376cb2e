"""The contract of a bus: one server of one plane, as the rest of Mirage sees it.

Three ideas, each a group of methods:

- *streams*: ordered entries with explicit IDs. A repeated publish of the same ID is success, so a retry is always safe.
- *fences*: an epoch per kind of work. `publish` checks it and adds in one step on the server, so an owner that lost
  its work cannot write, however late it wakes up.
- *leases*: a work stream holds one entry per session; the consumer group's pending entry *is* the lease.

Every method raises `BusUnavailable` when the server does not answer. Nothing is retried inside.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from schemas.ids import EntryId
from schemas.names import Kind

Fields = Mapping[bytes, bytes]


class Entry(NamedTuple):
    """One stream entry."""

    id: EntryId
    fields: Fields


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write as `kind`: valid while `epoch` is the newest of that kind in the hash `key`."""

    key: str
    kind: Kind
    epoch: int


@dataclass(frozen=True, slots=True)
class WorkEntry:
    """One session waiting for, or held by, a worker: an entry of a work stream."""

    id: EntryId
    sid: str


class Bus(Protocol):
    """One server, one plane."""

    # --- streams ---------------------------------------------------------------------------------------------------

    async def append(self, stream: str, fields: Fields) -> EntryId:
        """Add an entry with an ID that the server chooses; returns it. Never retried: a retry would write twice."""
        ...

    async def append_all(self, stream: str, batch: Sequence[Fields]) -> None:
        """Append entries in order, in one round trip. After `BusUnavailable` any first part of them may be there."""
        ...

    async def publish(
        self, stream: str, entry_id: EntryId, fields: Fields, *, fence: Fence | None = None, keep_ms: int | None = None
    ) -> bool:
        """Add an entry with an explicit ID, if `fence` still holds.

        `keep_ms` trims what is older than that many milliseconds before `entry_id`, and lets the stream vanish that
        long after its last entry. Returns False when that very ID
        already stands (a repeated publish). Raises `Fenced` when a newer epoch exists, `Conflict` when the stream has
        already gone past `entry_id` without holding it.
        """
        ...

    async def read(self, cursors: Mapping[str, EntryId], *, count: int, block_ms: int | None) -> dict[str, list[Entry]]:
        """Return entries after each stream's cursor, oldest first, at most `count` a stream.

        Waits up to `block_ms` (at most 2000) for the first one; None does not wait. Streams without news are absent.
        """
        ...

    async def entries(
        self,
        stream: str,
        *,
        after: EntryId | None = None,
        until: EntryId | None = None,
        count: int | None = None,
        newest_first: bool = False,
    ) -> list[Entry]:
        """Return the entries with `after` < ID <= `until`."""
        ...

    async def last_id(self, stream: str) -> EntryId:
        """Return the last ID that the stream ever gave out, also when that entry is gone; 0-0 for no stream."""
        ...

    async def length(self, stream: str) -> int:
        """Return the number of entries in the stream."""
        ...

    # --- fences ----------------------------------------------------------------------------------------------------

    async def raise_epoch(self, key: str, kind: Kind) -> int:
        """Start the next epoch of `kind` and return it: every older fence of that kind is void from now on.

        Epochs rise even when the server lost the hash: they are never below its clock in milliseconds.
        """
        ...

    async def epoch(self, key: str, kind: Kind) -> int:
        """Return the current epoch of `kind`, 0 before the first."""
        ...

    # --- leases ----------------------------------------------------------------------------------------------------

    async def offer(self, kind: Kind, sid: str) -> EntryId:
        """Add a session to the work of `kind`."""
        ...

    async def claim(self, kind: Kind, worker: str) -> WorkEntry | None:
        """Take a session that nobody holds yet; None when there is none. Does not wait."""
        ...

    async def take_over(self, kind: Kind, worker: str, *, idle_ms: int) -> WorkEntry | None:
        """Take a session whose owner has not beaten for `idle_ms`; None when there is none."""
        ...

    async def beat(self, kind: Kind, worker: str, held: Sequence[EntryId]) -> set[EntryId]:
        """Renew the leases that are still `worker`'s; return those. A lease that was taken over is left alone."""
        ...

    async def hand_over(self, kind: Kind, worker: str, entry_id: EntryId, *, idle_ms: int) -> None:
        """Give a lease up at once: it counts as idle for `idle_ms`, so that the next `take_over` gets it."""
        ...

    async def retire(self, kind: Kind, worker: str, entry_id: EntryId) -> bool:
        """Remove a finished session from the work; returns False when the lease is not `worker`'s (any more)."""
        ...

    async def waiting(self, kind: Kind, *, idle_ms: int) -> int:
        """Return how many sessions want a worker: unclaimed ones, and those idle for `idle_ms`."""
        ...

    # --- records ---------------------------------------------------------------------------------------------------

    async def put(self, key: str, fields: Fields) -> None:
        """Set fields of a hash."""
        ...

    async def put_once(self, key: str, field: bytes, value: bytes) -> bool:
        """Set a field of a hash unless it stands; returns whether this call set it."""
        ...

    async def get(self, key: str, fields: Sequence[bytes] | None = None) -> dict[bytes, bytes]:
        """Return a hash, or those of `fields` that it has; empty when there is none."""
        ...

    async def drop_fields(self, key: str, fields: Iterable[bytes]) -> None:
        """Remove fields of a hash."""
        ...

    async def spend(self, key: str, *, ttl_ms: int) -> bool:
        """Create a marker that lives `ttl_ms`; returns False when it stands already. For single-use tokens."""
        ...

    async def expire(self, keys: Iterable[str], *, ttl_ms: int) -> None:
        """Let keys vanish after `ttl_ms`."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Remove keys now."""
        ...

    async def now_ms(self) -> int:
        """Return the server's wall clock in milliseconds: one clock for deadlines, whoever asks."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


@dataclass(frozen=True, slots=True)
class Planes:
    """The two buses of an installation: one server each in the embedded default, the same server where only one is."""

    media: Bus
    events: Bus

    async def close(self) -> None:
        """Close both."""
        await self.media.close()
        if self.events is not self.media:
            await self.events.close()
