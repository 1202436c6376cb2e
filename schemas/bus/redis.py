"""The bus on a Redis >= 7.0 or Valkey server. The only module that knows redis-py.

redis-py's defaults do not fit a stream client, so none of them is relied upon: commands are never retried inside (a
retried `XADD *` writes twice), blocking reads have a connection pool of their own whose socket time-out is longer than
any block, and RESP2 keeps the shapes of answers the same on every server.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import redis.asyncio as aioredis
from redis import exceptions as rex
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from schemas.bus import scripts
from schemas.bus.base import Entry, Fence, Fields, WorkEntry
from schemas.errors import BusUnavailable, Conflict, Fenced, Misconfigured
from schemas.ids import ZERO, EntryId
from schemas.names import WORK_GROUP, Kind, work

MAX_BLOCK_MS = 2_000
_TIMEOUT_S = 5.0
_BLOCKING_TIMEOUT_S = MAX_BLOCK_MS / 1000 + _TIMEOUT_S
_MAX_CONNECTIONS = 4096  # redis-py's default of 100 fails the 101st command at a time, and every session blocks on two
_READ_BYTES = 1 << 18  # frames are about 40 KB: the default of 32 KB needs several reads a frame

_PASSING = frozenset(
    {"READONLY", "MISCONF", "NOREPLICAS", "UNBLOCKED", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "BUSY"}
)
"""First words of errors that say something of the server's state, not of the command: it may pass."""

P = ParamSpec("P")
R = TypeVar("R")


def _translated(
    method: Callable[Concatenate["RedisBus", P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["RedisBus", P], Coroutine[Any, Any, R]]:
    """Turn redis-py's connection errors into `BusUnavailable`: the one thing that callers handle."""

    @wraps(method)
    async def call(self: "RedisBus", /, *args: P.args, **kwargs: P.kwargs) -> R:
        task = asyncio.current_task()
        asked = 0 if task is None else task.cancelling()
        try:
            result = await method(self, *args, **kwargs)
        except (rex.ConnectionError, rex.TimeoutError, OSError) as error:
            raise BusUnavailable(f"{self.address} does not answer: {error}") from error
        except rex.OutOfMemoryError as error:
            raise BusUnavailable(f"{self.address} is at its memory limit: {error}") from error
        except rex.ResponseError as error:
            if str(error).split(" ", 1)[0] not in _PASSING:
                raise
            raise BusUnavailable(f"{self.address} cannot serve now: {error}") from error
        # redis-py sends inside `asyncio.wait_for`, which on Python 3.11 loses a cancellation that arrives just as the
        # sending is done: the task would go on for ever, and whoever waits for its end would hang.
        if task is not None and task.cancelling() > asked:
            raise asyncio.CancelledError
        return result

    return call


class RedisBus:
    """Implements `Bus` on one server, given by URL: `redis://`, `rediss://` or `unix://`."""

    def __init__(self, url: str) -> None:
        """Prepare connection pools; nothing is opened before the first command."""
        # Any: redis-py types its answers for every protocol and decoding at once, which says nothing about ours.
        self.address = url.rsplit("@", 1)[-1]
        self._client = self._connect(url, _TIMEOUT_S)
        self._blocking = self._connect(url, _BLOCKING_TIMEOUT_S)
        self._publish = self._client.register_script(scripts.PUBLISH)
        self._beat = self._client.register_script(scripts.BEAT)
        self._raise = self._client.register_script(scripts.RAISE)
        self._take_over = self._client.register_script(scripts.TAKE_OVER)
        self._hand_over = self._client.register_script(scripts.HAND_OVER)
        self._retire = self._client.register_script(scripts.RETIRE)
        self._groups: set[Kind] = set()

    @staticmethod
    def _connect(url: str, timeout_s: float) -> Any:
        try:
            return aioredis.Redis.from_url(
                url,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=timeout_s,
                socket_connect_timeout=_TIMEOUT_S,
                socket_read_size=_READ_BYTES,
                max_connections=_MAX_CONNECTIONS,
            )
        except ValueError as error:
            raise Misconfigured(f"not a server URL: {error}") from None

    # --- streams

    @_translated
    async def append(self, stream: str, fields: Fields) -> EntryId:
        """See `Bus.append`."""
        return EntryId.parse(await self._client.xadd(stream, fields))

    @_translated
    async def append_all(self, stream: str, batch: Sequence[Fields]) -> None:
        """See `Bus.append_all`."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for fields in batch:
                pipeline.xadd(stream, fields)
            answers = await pipeline.execute(raise_on_error=False)  # raised here they would carry redis-py's own words
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer

    @_translated
    async def publish(
        self, stream: str, entry_id: EntryId, fields: Fields, *, fence: Fence | None = None, keep_ms: int | None = None
    ) -> bool:
        """See `Bus.publish`."""
        keys = [stream] if fence is None else [stream, fence.key]
        oldest = b"" if keep_ms is None else b"%d-0" % max(0, entry_id.ms - keep_ms)
        keep = b"" if keep_ms is None else b"%d" % keep_ms
        kind, epoch = (b"", b"") if fence is None else (fence.kind.encode(), b"%d" % fence.epoch)
        flat = [part for pair in fields.items() for part in pair]
        try:
            added = await self._publish(keys=keys, args=[str(entry_id), oldest, keep, kind, epoch, *flat])
        except rex.ResponseError as error:
            if "FENCED" in str(error) and fence is not None:
                raise Fenced(f"epoch {fence.epoch} of {fence.kind} is over") from None
            if "equal or smaller" in str(error):
                raise Conflict(f"{stream} is already past {entry_id}") from None
            raise
        return bool(added)

    @_translated
    async def read(self, cursors: Mapping[str, EntryId], *, count: int, block_ms: int | None) -> dict[str, list[Entry]]:
        """See `Bus.read`."""
        client = self._client if block_ms is None else self._blocking
        answer = await client.xread(
            {name: str(cursor) for name, cursor in cursors.items()},
            count=count,
            block=None if block_ms is None else max(1, min(block_ms, MAX_BLOCK_MS)),
        )
        return {name.decode(): _entries(found) for name, found in answer or ()}

    @_translated
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
        low = "-" if after is None else f"({after}"
        high = "+" if until is None else str(until)
        if newest_first:
            return _entries(await self._client.xrevrange(stream, high, low, count))
        return _entries(await self._client.xrange(stream, low, high, count))

    @_translated
    async def last_id(self, stream: str) -> EntryId:
        """See `Bus.last_id`."""
        try:
            info = await self._client.xinfo_stream(stream)
        except rex.ResponseError as error:
            if "no such key" in str(error):
                return ZERO
            raise
        return EntryId.parse(info["last-generated-id"])

    @_translated
    async def length(self, stream: str) -> int:
        """See `Bus.length`."""
        return int(await self._client.xlen(stream))

    # --- fences

    @_translated
    async def raise_epoch(self, key: str, kind: Kind) -> int:
        """See `Bus.raise_epoch`."""
        return int(await self._raise(keys=[key], args=[kind]))

    @_translated
    async def epoch(self, key: str, kind: Kind) -> int:
        """See `Bus.epoch`."""
        return int(await self._client.hget(key, kind) or 0)

    # --- leases

    @_translated
    async def offer(self, kind: Kind, sid: str) -> EntryId:
        """See `Bus.offer`."""
        return EntryId.parse(await self._client.xadd(work(kind), {b"sid": sid.encode()}))

    async def _ensure_group(self, kind: Kind) -> None:
        if kind in self._groups:
            return
        try:
            await self._client.xgroup_create(work(kind), WORK_GROUP, id="0", mkstream=True)
        except rex.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._groups.add(kind)

    @_translated
    async def claim(self, kind: Kind, worker: str) -> WorkEntry | None:
        """See `Bus.claim`."""
        await self._ensure_group(kind)
        answer = await self._grouped(kind, lambda: self._client.xreadgroup(WORK_GROUP, worker, {work(kind): ">"}, 1))
        return _work_entry(_entries(answer[0][1])) if answer else None

    @_translated
    async def take_over(self, kind: Kind, worker: str, *, idle_ms: int) -> WorkEntry | None:
        """See `Bus.take_over`."""
        await self._ensure_group(kind)
        answer = await self._grouped(
            kind, lambda: self._take_over(keys=[work(kind)], args=[WORK_GROUP, worker, idle_ms])
        )
        pairs = [(entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in answer]
        return _work_entry(_entries(pairs))

    async def _grouped(self, kind: Kind, command: Callable[[], Awaitable[Any]]) -> Any:
        """Run a group command; a server that came back empty has lost the group, which is made again."""
        try:
            return await command()
        except rex.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._groups.discard(kind)
            await self._ensure_group(kind)
            return await command()

    @_translated
    async def beat(self, kind: Kind, worker: str, held: Sequence[EntryId]) -> set[EntryId]:
        """See `Bus.beat`."""
        if not held:
            return set()
        await self._ensure_group(kind)
        mine = await self._grouped(
            kind, lambda: self._beat(keys=[work(kind)], args=[WORK_GROUP, worker, *map(str, held)])
        )
        return {EntryId.parse(entry_id) for entry_id in mine}

    @_translated
    async def hand_over(self, kind: Kind, worker: str, entry_id: EntryId, *, idle_ms: int) -> None:
        """See `Bus.hand_over`."""
        await self._hand_over(keys=[work(kind)], args=[WORK_GROUP, worker, str(entry_id), idle_ms])

    @_translated
    async def retire(self, kind: Kind, worker: str, entry_id: EntryId) -> bool:
        """See `Bus.retire`."""
        return bool(await self._retire(keys=[work(kind)], args=[WORK_GROUP, worker, str(entry_id)]))

    @_translated
    async def waiting(self, kind: Kind, *, idle_ms: int) -> int:
        """See `Bus.waiting`."""
        await self._ensure_group(kind)
        held = await self._client.xpending(work(kind), WORK_GROUP)
        idle = await self._client.xpending_range(work(kind), WORK_GROUP, "-", "+", 1000, idle=idle_ms)
        return int(await self._client.xlen(work(kind))) - int(held["pending"]) + len(idle)

    # --- records

    @_translated
    async def put(self, key: str, fields: Fields) -> None:
        """See `Bus.put`."""
        await self._client.hset(key, mapping=dict(fields))

    @_translated
    async def put_once(self, key: str, field: bytes, value: bytes) -> bool:
        """See `Bus.put_once`."""
        return bool(await self._client.hsetnx(key, field, value))

    @_translated
    async def get(self, key: str, fields: Sequence[bytes] | None = None) -> dict[bytes, bytes]:
        """See `Bus.get`."""
        if fields is not None:
            values = await self._client.hmget(key, list(fields))
            return {name: value for name, value in zip(fields, values, strict=True) if value is not None}
        return dict(await self._client.hgetall(key))

    @_translated
    async def drop_fields(self, key: str, fields: Iterable[bytes]) -> None:
        """See `Bus.drop_fields`."""
        names = list(fields)
        if names:
            await self._client.hdel(key, *names)

    @_translated
    async def spend(self, key: str, *, ttl_ms: int) -> bool:
        """See `Bus.spend`."""
        return bool(await self._client.set(key, b"1", nx=True, px=ttl_ms))

    @_translated
    async def expire(self, keys: Iterable[str], *, ttl_ms: int) -> None:
        """See `Bus.expire`."""
        await asyncio.gather(*(self._client.pexpire(key, ttl_ms) for key in keys))

    @_translated
    async def delete(self, keys: Iterable[str]) -> None:
        """See `Bus.delete`."""
        await asyncio.gather(*(self._client.unlink(key) for key in keys))

    @_translated
    async def now_ms(self) -> int:
        """See `Bus.now_ms`."""
        seconds, micros = await self._client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    @_translated
    async def check(self) -> None:
        """Refuse a server that Mirage cannot work on; raises `Misconfigured` with what to change."""
        try:
            info = await self._client.info("server")
            policy = await self._eviction()
        except rex.AuthenticationError as error:
            raise Misconfigured(f"{self.address} refused the credentials in the URL: {error}") from None
        version = str(info.get("redis_version", "0"))
        if int(version.split(".", 1)[0]) < 7:
            raise Misconfigured(f"{self.address} speaks Redis {version}; Mirage needs Redis >= 7.0 or Valkey")
        if policy != "noeviction":
            raise Misconfigured(
                f"{self.address} has maxmemory-policy {policy}; it would evict sessions. Set it to noeviction"
            )

    async def _eviction(self) -> str:
        try:
            found = await self._client.config_get("maxmemory-policy")
        except rex.ResponseError:  # managed servers forbid CONFIG; INFO says the same to whoever may ask it
            found = {"maxmemory-policy": (await self._client.info("memory")).get("maxmemory_policy", "unknown")}
        return str(found["maxmemory-policy"])

    async def close(self) -> None:
        """See `Bus.close`."""
        await self._client.aclose()
        await self._blocking.aclose()


def _entries(raw: Iterable[tuple[bytes, dict[bytes, bytes] | None]]) -> list[Entry]:
    # A pending entry that was trimmed comes back without fields: it is gone, and nobody can work on it.
    return [Entry(EntryId.parse(entry_id), fields) for entry_id, fields in raw if fields]


def _work_entry(entries: list[Entry]) -> WorkEntry | None:
    return WorkEntry(entries[0].id, entries[0].fields[b"sid"].decode()) if entries else None
