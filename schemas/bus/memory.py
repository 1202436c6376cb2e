"""The bus in one process's memory, for tests of logic. The same contract suite holds it to what a server does."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.bus.base import Entry, Fence, Fields, WorkEntry
from schemas.errors import Conflict, Fenced
from schemas.ids import ZERO, EntryId
from schemas.names import Kind, work


@dataclass(slots=True)
class _Stream:
    entries: list[Entry] = field(default_factory=list)
    last: EntryId = ZERO


@dataclass(slots=True)
class _Lease:
    worker: str
    beaten: float


class MemoryBus:
    """Implements `Bus` with dictionaries and one condition variable."""

    def __init__(self) -> None:
        """Start empty."""
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)
        self._hashes: defaultdict[str, dict[bytes, bytes]] = defaultdict(dict)
        self._leases: defaultdict[Kind, dict[EntryId, _Lease]] = defaultdict(dict)
        self._claimed: defaultdict[Kind, EntryId] = defaultdict(lambda: ZERO)
        self._expiry: dict[str, float] = {}
        self._news = asyncio.Condition()

    # --- streams

    async def append(self, stream: str, fields: Fields) -> EntryId:
        """See `Bus.append`."""
        last = self._streams[stream].last
        fresh = EntryId(time.time_ns() // 1_000_000, 0)
        return await self._add(stream, fresh if fresh > last else last.successor(), fields)

    async def append_all(self, stream: str, batch: Sequence[Fields]) -> None:
        """See `Bus.append_all`."""
        for fields in batch:
            await self.append(stream, fields)

    async def publish(
        self, stream: str, entry_id: EntryId, fields: Fields, *, fence: Fence | None = None, keep_ms: int | None = None
    ) -> bool:
        """See `Bus.publish`."""
        if fence is not None and await self.epoch(fence.key, fence.kind) != fence.epoch:
            raise Fenced(f"epoch {fence.epoch} of {fence.kind} is over")
        self._purge()
        held = self._streams[stream]
        if entry_id <= held.last:
            if any(entry.id == entry_id for entry in held.entries):
                return False
            raise Conflict(f"{stream} is already at {held.last}, past {entry_id}")
        await self._add(stream, entry_id, fields)
        if keep_ms is not None:
            oldest = EntryId(max(0, entry_id.ms - keep_ms), 0)
            held.entries = [entry for entry in held.entries if entry.id >= oldest]
            await self.expire([stream], ttl_ms=keep_ms)
        return True

    async def _add(self, stream: str, entry_id: EntryId, fields: Fields) -> EntryId:
        held = self._streams[stream]
        held.entries.append(Entry(entry_id, dict(fields)))
        held.last = entry_id
        async with self._news:
            self._news.notify_all()
        return entry_id

    async def read(self, cursors: Mapping[str, EntryId], *, count: int, block_ms: int | None) -> dict[str, list[Entry]]:
        """See `Bus.read`."""

        def news() -> dict[str, list[Entry]]:
            self._purge()
            found = {
                name: [entry for entry in self._streams[name].entries if entry.id > cursor][:count]
                for name, cursor in cursors.items()
            }
            return {name: entries for name, entries in found.items() if entries}

        found = news()
        if found or not block_ms:
            return found
        try:
            async with asyncio.timeout(block_ms / 1000), self._news:
                await self._news.wait_for(news)
        except TimeoutError:
            pass
        return news()

    async def entries(
        self,
        stream: str,
        *,
        after: EntryId | None = None,
        until: EntryId | None = None,
        count: int | None = None,
        newest_first: bool = False,
    ) -> list[Entry]:
        """See `Bus.entries`."""
        self._purge()
        found = [
            entry
            for entry in self._streams[stream].entries
            if (after is None or entry.id > after) and (until is None or entry.id <= until)
        ]
        return (found[::-1] if newest_first else found)[:count]

    async def last_id(self, stream: str) -> EntryId:
        """See `Bus.last_id`."""
        self._purge()
        return self._streams[stream].last

    async def length(self, stream: str) -> int:
        """See `Bus.length`."""
        self._purge()
        return len(self._streams[stream].entries)

    # --- fences

    async def raise_epoch(self, key: str, kind: Kind) -> int:
        """See `Bus.raise_epoch`."""
        epoch = max(await self.epoch(key, kind) + 1, await self.now_ms())
        self._hashes[key][kind.encode()] = b"%d" % epoch
        return epoch

    async def epoch(self, key: str, kind: Kind) -> int:
        """See `Bus.epoch`."""
        self._purge()
        return int(self._hashes[key].get(kind.encode(), b"0"))

    # --- leases

    async def offer(self, kind: Kind, sid: str) -> EntryId:
        """See `Bus.offer`."""
        return await self.append(work(kind), {b"sid": sid.encode()})

    async def claim(self, kind: Kind, worker: str) -> WorkEntry | None:
        """See `Bus.claim`."""
        for entry in self._streams[work(kind)].entries:
            if entry.id > self._claimed[kind]:
                self._claimed[kind] = entry.id
                return self._take(kind, worker, entry)
        return None

    async def take_over(self, kind: Kind, worker: str, *, idle_ms: int) -> WorkEntry | None:
        """See `Bus.take_over`."""
        for entry in self._streams[work(kind)].entries:
            lease = self._leases[kind].get(entry.id)
            if lease is not None and (time.monotonic() - lease.beaten) * 1000 >= idle_ms:
                return self._take(kind, worker, entry)
        return None

    def _take(self, kind: Kind, worker: str, entry: Entry) -> WorkEntry:
        self._leases[kind][entry.id] = _Lease(worker, time.monotonic())
        return WorkEntry(entry.id, entry.fields[b"sid"].decode())

    async def beat(self, kind: Kind, worker: str, held: Sequence[EntryId]) -> set[EntryId]:
        """See `Bus.beat`."""
        mine = {entry_id for entry_id in held if self._owns(kind, worker, entry_id)}
        for entry_id in mine:
            self._leases[kind][entry_id].beaten = time.monotonic()
        return mine

    async def hand_over(self, kind: Kind, worker: str, entry_id: EntryId, *, idle_ms: int) -> None:
        """See `Bus.hand_over`."""
        if self._owns(kind, worker, entry_id):
            self._leases[kind][entry_id].beaten = time.monotonic() - idle_ms / 1000

    async def retire(self, kind: Kind, worker: str, entry_id: EntryId) -> bool:
        """See `Bus.retire`."""
        if not self._owns(kind, worker, entry_id):
            return False
        del self._leases[kind][entry_id]
        held = self._streams[work(kind)]
        held.entries = [entry for entry in held.entries if entry.id != entry_id]
        return True

    def _owns(self, kind: Kind, worker: str, entry_id: EntryId) -> bool:
        lease = self._leases[kind].get(entry_id)
        return lease is not None and lease.worker == worker

    async def waiting(self, kind: Kind, *, idle_ms: int) -> int:
        """See `Bus.waiting`."""
        unclaimed = sum(entry.id > self._claimed[kind] for entry in self._streams[work(kind)].entries)
        now = time.monotonic()
        return unclaimed + sum((now - lease.beaten) * 1000 >= idle_ms for lease in self._leases[kind].values())

    # --- records

    async def put(self, key: str, fields: Fields) -> None:
        """See `Bus.put`."""
        self._purge()
        self._hashes[key].update(fields)

    async def put_once(self, key: str, field: bytes, value: bytes) -> bool:
        """See `Bus.put_once`."""
        self._purge()
        return self._hashes[key].setdefault(field, value) is value

    async def get(self, key: str, fields: Sequence[bytes] | None = None) -> dict[bytes, bytes]:
        """See `Bus.get`."""
        self._purge()
        return {name: value for name, value in self._hashes[key].items() if fields is None or name in fields}

    async def drop_fields(self, key: str, fields: Iterable[bytes]) -> None:
        """See `Bus.drop_fields`."""
        for name in fields:
            self._hashes[key].pop(name, None)

    async def spend(self, key: str, *, ttl_ms: int) -> bool:
        """See `Bus.spend`."""
        self._purge()
        if b"spent" in self._hashes[key]:
            return False
        self._hashes[key][b"spent"] = b"1"
        await self.expire([key], ttl_ms=ttl_ms)
        return True

    async def expire(self, keys: Iterable[str], *, ttl_ms: int) -> None:
        """See `Bus.expire`."""
        for key in keys:
            self._expiry[key] = time.monotonic() + ttl_ms / 1000

    async def delete(self, keys: Iterable[str]) -> None:
        """See `Bus.delete`."""
        for key in keys:
            self._streams.pop(key, None)
            self._hashes.pop(key, None)
            self._expiry.pop(key, None)

    def _purge(self) -> None:
        now = time.monotonic()
        for key in [key for key, due in self._expiry.items() if due <= now]:
            self._streams.pop(key, None)
            self._hashes.pop(key, None)
            del self._expiry[key]

    async def now_ms(self) -> int:
        """See `Bus.now_ms`."""
        return time.time_ns() // 1_000_000

    async def close(self) -> None:
        """See `Bus.close`."""
