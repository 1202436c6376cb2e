"""Background work that fails ends the process: half a service looks like a whole one."""

import asyncio
import signal
import uuid
from typing import Any

from ingress import background
from ingress.app import create_app
from ingress.egress import SessionFeed
from ingress.settings import IngressSettings
from ingress.tokens import KeyRing
from schemas.bus.base import Entry, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.session_store import SessionRecord
from tests.ingress.client import SECRET, FakeEnroller
from tests.waiting import PATIENCE_S


class Broken(MemoryBus):
    """Fails as no server does."""

    async def now_ms(self) -> int:
        """See `Bus.now_ms`."""
        raise RuntimeError("a mistake of ours")

    async def read(self, *_: Any, **__: Any) -> dict[str, list[Entry]]:
        """See `Bus.read`."""
        raise RuntimeError("a mistake of ours")


async def test_a_sweeper_that_fails_ends_the_process() -> None:
    fatal = asyncio.Event()
    app = create_app(
        planes=Planes(MemoryBus(), Broken()),
        enroller=FakeEnroller(),
        settings=IngressSettings(sweep_s=0.01),
        keys=KeyRing(SECRET),
        clock=SystemClock(),
        on_fatal=fatal.set,
    )
    async with asyncio.timeout(PATIENCE_S), app.router.lifespan_context(app):
        await fatal.wait()


async def test_a_feed_that_fails_ends_the_process() -> None:
    fatal = asyncio.Event()
    record = SessionRecord(sid=uuid.uuid4().hex, owner="", created_ms=0, expires_ms=0)
    feed = SessionFeed(record, Planes(Broken(), MemoryBus()), SystemClock(), fatal.set)
    await feed.start()
    async with asyncio.timeout(PATIENCE_S):
        await fatal.wait()
    await feed.stop()


async def test_work_that_is_cancelled_ends_nothing() -> None:
    fatal = asyncio.Event()
    task = background.start(asyncio.sleep(60), name="sleep", on_fatal=fatal.set)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not fatal.is_set()


def test_the_end_is_an_orderly_one() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        background.end_process()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert got == [signal.SIGTERM]
