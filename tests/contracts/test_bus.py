"""One contract, every bus: memory, and a real embedded server."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from schemas.bus.base import Bus, Fence
from schemas.bus.memory import MemoryBus
from schemas.bus.redis import RedisBus
from schemas.errors import Conflict, Fenced
from schemas.ids import ZERO, EntryId
from schemas.names import Kind, work
from tests.waiting import until


@pytest.fixture(params=["memory", "server"])
async def bus(request: pytest.FixtureRequest, server_urls: tuple[str, str]) -> AsyncIterator[Bus]:
    bus: Bus = MemoryBus() if request.param == "memory" else RedisBus(server_urls[0])
    await bus.delete(work(kind) for kind in Kind)
    yield bus
    await bus.delete(work(kind) for kind in Kind)
    await bus.close()


@pytest.fixture
def stream() -> str:
    return f"test:{uuid.uuid4().hex}"


A, B, C = EntryId(1000, 0), EntryId(1000, 1), EntryId(2000, 0)


async def test_entries_come_back_in_order_with_their_ids_and_bytes(bus: Bus, stream: str) -> None:
    payload = bytes(range(256)) * 200
    assert await bus.publish(stream, A, {b"d": payload})
    assert await bus.publish(stream, B, {b"d": b""})
    assert await bus.entries(stream) == [(A, {b"d": payload}), (B, {b"d": b""})]
    assert await bus.entries(stream, after=A) == [(B, {b"d": b""})]
    assert await bus.entries(stream, until=A) == [(A, {b"d": payload})]
    assert [entry.id for entry in await bus.entries(stream, newest_first=True, count=1)] == [B]
    assert await bus.last_id(stream) == B
    assert await bus.length(stream) == 2


async def test_a_repeated_publish_is_success_and_adds_nothing(bus: Bus, stream: str) -> None:
    assert await bus.publish(stream, A, {b"d": b"1"})
    assert await bus.publish(stream, B, {b"d": b"2"})
    assert not await bus.publish(stream, A, {b"d": b"1"})
    assert not await bus.publish(stream, B, {b"d": b"2"})
    assert await bus.length(stream) == 2


async def test_an_id_below_the_last_that_is_not_there_is_a_conflict(bus: Bus, stream: str) -> None:
    await bus.publish(stream, C, {b"d": b"1"})
    with pytest.raises(Conflict):
        await bus.publish(stream, B, {b"d": b"2"})


async def test_server_ordered_ids_rise(bus: Bus, stream: str) -> None:
    ids = [await bus.append(stream, {b"n": b"%d" % n}) for n in range(20)]
    assert ids == sorted(set(ids))
    assert await bus.last_id(stream) == ids[-1]


async def test_last_id_of_no_stream_is_zero(bus: Bus, stream: str) -> None:
    assert await bus.last_id(stream) == ZERO
    assert await bus.entries(stream) == []
    assert await bus.length(stream) == 0


async def test_retention_trims_by_time(bus: Bus, stream: str) -> None:
    for ms in range(1000, 3000, 100):
        await bus.publish(stream, EntryId(ms, 0), {b"d": b"x" * 5000}, keep_ms=500)
    assert [entry.id.ms for entry in await bus.entries(stream)] == [2400, 2500, 2600, 2700, 2800, 2900]


async def test_a_stream_that_nobody_writes_any_more_vanishes_with_its_last_entry(bus: Bus, stream: str) -> None:
    await bus.publish(stream, A, {b"d": b"1"})
    await asyncio.sleep(0.05)
    assert await bus.length(stream) == 1, "without a retention it stays"
    for n in range(4):  # each publish gives it a further 400 ms
        await bus.publish(stream, EntryId(2000 + n, 0), {b"d": b"2"}, keep_ms=400)
        await asyncio.sleep(0.12)
    assert await bus.length(stream) >= 4
    await until(lambda: _gone(bus, stream), within_s=2, what="stream expired")
    assert await bus.last_id(stream) == ZERO


async def _gone(bus: Bus, stream: str) -> bool:
    return await bus.length(stream) == 0


async def test_a_refused_publish_leaves_the_retention_alone(bus: Bus, stream: str) -> None:
    """A zombie can neither trim nor prolong what its successor writes."""
    key = stream + ":epoch"
    old = Fence(key, Kind.VIDEO, await bus.raise_epoch(key, Kind.VIDEO))
    new = Fence(key, Kind.VIDEO, await bus.raise_epoch(key, Kind.VIDEO))
    await bus.publish(stream, A, {b"d": b"1"}, fence=new)
    with pytest.raises(Fenced):
        await bus.publish(stream, EntryId(900_000, 0), {b"d": b"zombie"}, fence=old, keep_ms=1)
    await asyncio.sleep(0.02)
    assert [entry.id for entry in await bus.entries(stream)] == [A]


async def test_reading_does_not_wait_when_told_not_to(bus: Bus, stream: str) -> None:
    assert await bus.read({stream: ZERO}, count=10, block_ms=None) == {}


async def test_a_blocked_read_returns_empty_in_time_and_wakes_on_news(bus: Bus, stream: str) -> None:
    assert await bus.read({stream: ZERO}, count=10, block_ms=20) == {}
    reading = asyncio.create_task(bus.read({stream: ZERO}, count=10, block_ms=2000))
    await asyncio.sleep(0.01)
    await bus.publish(stream, A, {b"d": b"1"})
    assert await asyncio.wait_for(reading, 1) == {stream: [(A, {b"d": b"1"})]}


async def test_reading_goes_on_after_the_cursor_and_respects_count(bus: Bus, stream: str) -> None:
    other = stream + "2"
    for entry_id in (A, B, C):
        await bus.publish(stream, entry_id, {b"d": b"1"})
    await bus.publish(other, C, {b"d": b"1"})
    found = await bus.read({stream: A, other: C}, count=10, block_ms=None)
    assert {name: [entry.id for entry in entries] for name, entries in found.items()} == {stream: [B, C]}
    assert [entry.id for entry in (await bus.read({stream: ZERO}, count=2, block_ms=None))[stream]] == [A, B]


async def test_an_older_epoch_is_fenced_and_writes_nothing(bus: Bus, stream: str) -> None:
    key = stream + ":epoch"
    assert await bus.epoch(key, Kind.VIDEO) == 0
    old = Fence(key, Kind.VIDEO, await bus.raise_epoch(key, Kind.VIDEO))
    assert await bus.publish(stream, A, {b"d": b"1"}, fence=old)
    new = Fence(key, Kind.VIDEO, await bus.raise_epoch(key, Kind.VIDEO))
    with pytest.raises(Fenced):
        await bus.publish(stream, B, {b"d": b"zombie"}, fence=old)
    assert await bus.publish(stream, B, {b"d": b"2"}, fence=new)
    assert await bus.epoch(key, Kind.VOICE) == 0
    assert [entry.fields[b"d"] for entry in await bus.entries(stream)] == [b"1", b"2"]


async def test_an_epoch_is_never_given_out_again_even_when_its_hash_is_lost(bus: Bus, stream: str) -> None:
    """A server that keeps nothing comes back without its epochs; a fence from before must stay void."""
    given = [await bus.raise_epoch(stream, Kind.VIDEO) for _ in range(5)]
    for _ in range(3):
        await bus.delete([stream])
        assert await bus.epoch(stream, Kind.VIDEO) == 0
        await _clock_past(bus, given[-1])
        given += [await bus.raise_epoch(stream, Kind.VIDEO) for _ in range(2)]
    assert given == sorted(set(given))


async def _clock_past(bus: Bus, epoch: int) -> None:
    """Wait for the few milliseconds that any server takes longer to come back."""

    async def past() -> bool:
        return await bus.now_ms() > epoch

    await until(past, within_s=1, what="the clock goes on")


async def test_each_session_is_claimed_by_one_worker(bus: Bus) -> None:
    for n in range(3):
        await bus.offer(Kind.VIDEO, f"s{n}")
    claims = [await bus.claim(Kind.VIDEO, worker) for worker in ("a", "b", "a", "b")]
    assert [claim.sid if claim else None for claim in claims] == ["s0", "s1", "s2", None]
    assert await bus.claim(Kind.VOICE, "a") is None


async def test_a_lease_that_is_renewed_cannot_be_taken_over(bus: Bus) -> None:
    await bus.offer(Kind.VIDEO, "s")
    lease = await bus.claim(Kind.VIDEO, "a")
    assert lease
    await asyncio.sleep(0.05)
    assert await bus.beat(Kind.VIDEO, "a", [lease.id]) == {lease.id}
    assert await bus.take_over(Kind.VIDEO, "b", idle_ms=40) is None
    await asyncio.sleep(0.05)
    taken = await bus.take_over(Kind.VIDEO, "b", idle_ms=40)
    assert taken == lease


async def test_a_zombie_cannot_renew_hand_over_or_retire_what_was_taken_from_it(bus: Bus) -> None:
    await bus.offer(Kind.VIDEO, "s")
    lease = await bus.claim(Kind.VIDEO, "a")
    assert lease
    assert await bus.take_over(Kind.VIDEO, "b", idle_ms=0) == lease
    assert await bus.beat(Kind.VIDEO, "a", [lease.id]) == set()
    await bus.hand_over(Kind.VIDEO, "a", lease.id, idle_ms=60_000)
    assert await bus.take_over(Kind.VIDEO, "c", idle_ms=30_000) is None
    assert not await bus.retire(Kind.VIDEO, "a", lease.id)
    assert await bus.beat(Kind.VIDEO, "b", [lease.id]) == {lease.id}


async def test_a_handed_over_lease_is_free_at_once(bus: Bus) -> None:
    await bus.offer(Kind.VIDEO, "s")
    lease = await bus.claim(Kind.VIDEO, "a")
    assert lease
    await bus.hand_over(Kind.VIDEO, "a", lease.id, idle_ms=3000)
    assert await bus.waiting(Kind.VIDEO, idle_ms=3000) == 1
    assert await bus.take_over(Kind.VIDEO, "b", idle_ms=3000) == lease
    assert await bus.waiting(Kind.VIDEO, idle_ms=3000) == 0


async def test_a_dead_lease_is_found_behind_any_number_of_healthy_ones(bus: Bus) -> None:
    for n in range(12):
        await bus.offer(Kind.VIDEO, f"s{n}")
    claims = [await bus.claim(Kind.VIDEO, "a") for _ in range(12)]
    held = [claim.id for claim in claims if claim]
    await bus.hand_over(Kind.VIDEO, "a", held[11], idle_ms=3000)
    assert await bus.beat(Kind.VIDEO, "a", held[:11]) == set(held[:11])
    assert await bus.waiting(Kind.VIDEO, idle_ms=3000) == 1
    assert await bus.take_over(Kind.VIDEO, "b", idle_ms=3000) == claims[11]
    assert await bus.take_over(Kind.VIDEO, "b", idle_ms=3000) is None


async def test_what_was_taken_over_counts_as_beaten(bus: Bus) -> None:
    """Two idle workers that look at the same moment do not both get a dead owner's session."""
    await bus.offer(Kind.VIDEO, "s")
    lease = await bus.claim(Kind.VIDEO, "a")
    assert lease
    await bus.hand_over(Kind.VIDEO, "a", lease.id, idle_ms=3000)
    taken = await asyncio.gather(*(bus.take_over(Kind.VIDEO, worker, idle_ms=3000) for worker in "bcd"))
    assert sorted(map(bool, taken)) == [False, False, True]


async def test_retired_work_is_gone(bus: Bus) -> None:
    await bus.offer(Kind.VIDEO, "s")
    assert await bus.waiting(Kind.VIDEO, idle_ms=3000) == 1
    lease = await bus.claim(Kind.VIDEO, "a")
    assert lease
    assert await bus.retire(Kind.VIDEO, "a", lease.id)
    assert await bus.take_over(Kind.VIDEO, "b", idle_ms=0) is None
    assert await bus.waiting(Kind.VIDEO, idle_ms=0) == 0


async def test_records(bus: Bus, stream: str) -> None:
    assert await bus.get(stream) == {}
    await bus.put(stream, {b"a": b"1", b"b": b"2"})
    await bus.put(stream, {b"b": b"3"})
    assert await bus.get(stream) == {b"a": b"1", b"b": b"3"}
    assert await bus.put_once(stream, b"end", b"first")
    assert not await bus.put_once(stream, b"end", b"second")
    await bus.drop_fields(stream, [b"a", b"b"])
    assert await bus.get(stream) == {b"end": b"first"}
    await bus.delete([stream])
    assert await bus.get(stream) == {}


async def test_a_token_is_spent_once(bus: Bus, stream: str) -> None:
    wins = await asyncio.gather(*(bus.spend(stream, ttl_ms=1000) for _ in range(20)))
    assert sum(wins) == 1


async def test_expired_keys_vanish(bus: Bus, stream: str) -> None:
    await bus.put(stream, {b"a": b"1"})
    await bus.expire([stream], ttl_ms=10)
    await asyncio.sleep(0.03)
    assert await bus.get(stream) == {}
