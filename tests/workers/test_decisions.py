"""Decisions take effect in media workers: which frames a soft skip leaves out, and what becomes of unknown orders."""

import asyncio

import msgspec
import pytest

from schemas.decisions import (
    Abandon,
    DropVideoUntil,
    LatencyTargetMissed,
    SetChunk,
    SetVideo,
    SoftSkip,
    VideoOverloaded,
    VoiceFailed,
    VoiceRestored,
)
from schemas.events import DropReason
from schemas.message import Message
from schemas.names import Kind
from tests.workers.stage import NEWEST, Stage
from workers.freshness import SoftSkipping

OTHERS: tuple[Message | bytes, ...] = (
    SetChunk(cause="1-0", rule="r", chunk_ms=256),
    SetVideo(cause="1-0", rule="r", rung=7, quality=55, fps=15, size=256),
    VoiceFailed(cause="1-0", rule="r", retry_ms=10_000),
    VoiceRestored(cause="1-0", rule="r"),
    LatencyTargetMissed(cause="1-0", rule="r", e2e_us=1, chunk_ms=192),
    VideoOverloaded(cause="1-0", rule="r", ratio_pm=900),
    msgspec.msgpack.encode({"t": "hyper_skip", "v": 1, "of": 1}),
    msgspec.msgpack.encode({"t": "soft_skip", "v": 2, "of": 1, "cause": "1-0", "rule": "r"}),
    b"no message at all",
    b"",
)
"""Orders to others, and messages of a build that is yet to be written."""


def skip(of: int) -> SoftSkip:
    return SoftSkip(cause="1-0", rule="r", of=of)


async def test_a_soft_skip_leaves_out_the_last_of_every_four_and_reports_it_in_its_turn(stage: Stage) -> None:
    task, converter = await stage.task()
    await task.resume()
    await stage.order(skip(4))
    await task.handle(await stage.frames(*range(10, 100, 10)))
    left_out = {40, 80}
    assert await stage.became() == [
        (ms, DropReason.SOFT_SKIP if ms in left_out else "published") for ms in range(10, 100, 10)
    ]
    assert converter.worked_on == await stage.outputs() == [10, 20, 30, 50, 60, 70, 90]


async def test_the_count_goes_on_from_read_to_read_and_a_soft_skip_ends(stage: Stage) -> None:
    task, _ = await stage.task()
    await task.resume()
    await stage.order(skip(3))
    for ms in (10, 20, 30, 40):
        await task.handle(await stage.frames(ms))
    await stage.order(skip(2))
    await task.handle(await stage.frames(50, 60, 70))
    await stage.order(skip(0))
    await task.handle(await stage.frames(80, 90, 100))
    assert [ms for ms, what in await stage.became() if what == DropReason.SOFT_SKIP] == [30, 60]


async def test_a_soft_skip_counts_frames_that_would_be_begun_and_no_others(stage: Stage) -> None:
    """Late and superseded frames are gone already; of those that are left, every other one."""
    task, converter = await stage.task(limits=NEWEST)
    await task.resume()
    await stage.order(DropVideoUntil(cause="1-0", rule="r", floor_us=30_000))
    await stage.order(skip(2))

    async def work_long(_: int) -> None:
        await asyncio.sleep(0.06)  # more than the 50 ms between two frames

    converter.during = work_long
    await task.handle(await stage.frames(10, 20, 30))
    await task.handle(await stage.frames(40, 50))
    await task.handle(await stage.frames(60))
    assert await stage.became() == [
        (10, DropReason.LATE),
        (20, DropReason.LATE),
        (30, "published"),
        (40, DropReason.SUPERSEDED),
        (50, DropReason.SOFT_SKIP),
        (60, "published"),
    ]


async def test_a_soft_skip_is_not_for_sound(stage: Stage) -> None:
    stage.kind = Kind.VOICE
    task, _ = await stage.task()
    await task.resume()
    await stage.order(skip(1))
    await task.handle(await stage.frames(10, 20, 30))
    assert await stage.outputs() == [10, 20, 30]


async def test_a_soft_skip_in_force_holds_for_the_next_owner(stage: Stage) -> None:
    first, _ = await stage.task()
    await first.resume()
    await stage.order(skip(2))
    await first.handle(await stage.frames(10, 20))
    second, _ = await stage.task()
    await second.resume()
    await second.handle(await stage.frames(30, 40))
    assert [ms for ms, what in await stage.became() if what == DropReason.SOFT_SKIP] == [20, 40]


async def test_orders_to_others_and_orders_that_nobody_knows_do_no_harm(stage: Stage) -> None:
    task, _ = await stage.task()
    await task.resume()
    for decision in OTHERS:
        await stage.order(decision)
    await stage.order(skip(2))
    await task.handle(await stage.frames(10, 20, 30))
    assert await stage.became() == [(10, "published"), (20, DropReason.SOFT_SKIP), (30, "published")]


async def test_nothing_of_an_abandoned_session_is_worked_on(stage: Stage) -> None:
    task, converter = await stage.task()
    await task.resume()
    await stage.order(Abandon(cause="1-0", rule="r", reason="invalid_media"))
    await task.handle(await stage.frames(10))
    assert await stage.became() == [(10, DropReason.ENDED)]
    assert converter.worked_on == []


@pytest.mark.parametrize("of", [1, 2, 4, 7])
def test_one_of_every_n_is_left_out(of: int) -> None:
    skipping = SoftSkipping()
    assert [n for n in range(1, 29) if skipping.leaves_out(of)] == list(range(of, 29, of))
