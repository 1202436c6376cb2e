"""An ingress without workers and without policy: outputs are the inputs, and decisions are what a test writes."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from ingress.settings import IngressSettings
from schemas import names
from schemas.bus.base import Entry, Planes
from schemas.bus.redis import RedisBus
from schemas.events import EVENT, metric_events
from schemas.facts import ControlFact, control_facts
from schemas.identity_store import IdentityStore
from schemas.media import MediaEntry, unpack
from schemas.message import Message, encode
from schemas.names import SessionKeys
from schemas.session_store import SessionRecord, SessionStore
from tests.ingress.client import Service, echo, new_code, serve

WEB_ROOT = Path(__file__).parents[2] / "ingress" / "web"
T = TypeVar("T")
E = TypeVar("E", bound=Message)


class LoneEdge:
    """The running ingress, for tests that are no coroutines."""

    def __init__(self, loop: asyncio.AbstractEventLoop, service: Service, stack: AsyncExitStack) -> None:
        """Use what runs in `loop`."""
        self._loop, self._service, self._stack = loop, service, stack
        self._planes = service.planes
        self.url = f"http://127.0.0.1:{service.port}"

    def _do(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(30)

    def login_url(self) -> str:
        """Return the studio's address with a fresh login code."""
        code = new_code()
        self._do(lambda: self._planes.events.put(names.login(code), {b"sub": b"ada"}))
        return f"{self.url}/?code={code}"

    def enrol(self, label: str) -> str:
        """Enrol somebody with face and voice, who is listed as `label`; returns the ID."""
        return self._do(lambda: self._service.identity(subject=label))

    def revoke(self, identity_id: str) -> None:
        """Revoke the consent of somebody enrolled."""
        self._do(lambda: IdentityStore(self._planes.events).revoke(identity_id))

    def record(self, sid: str) -> SessionRecord:
        """Return what the session was created with."""
        return self._do(lambda: SessionStore(self._planes).load(sid)).record

    def facts(self, sid: str) -> list[ControlFact]:
        """Return the facts of the session so far."""
        entries = self._do(lambda: self._planes.events.entries(SessionKeys(sid).control))
        return [control_facts.decode(entry.fields[EVENT]) for entry in entries]

    def give_back(self, sid: str) -> None:
        """Let the session's outputs be its inputs, from now on."""
        self._do(lambda: self._stack.enter_async_context(echo(self._planes, sid)))

    def decide(self, sid: str, *decisions: Message) -> None:
        """Write decisions, as the policy service does."""
        for decision in decisions:
            self._append(SessionKeys(sid).policy, decision)

    def report(self, sid: str, event: Message) -> None:
        """Write a metric event."""
        self._append(SessionKeys(sid).metrics, event)

    def _append(self, stream: str, message: Message) -> None:
        self._do(lambda: self._planes.events.append(stream, {EVENT: encode(message)}))

    def frames(self, sid: str) -> list[MediaEntry]:
        """Return the frames that came in and are still there."""
        return [unpack(*entry) for entry in self._media(SessionKeys(sid).video_in)]

    def chunks(self, sid: str) -> list[MediaEntry]:
        """Return the chunks of sound that came in and are still there."""
        return [unpack(*entry) for entry in self._media(SessionKeys(sid).audio_in)]

    def _media(self, stream: str) -> list[Entry]:
        return self._do(lambda: self._planes.media.entries(stream))

    def events(self, sid: str, kind: type[E]) -> list[tuple[int, E]]:
        """Return the metric events of one type, each with when it was written, in ms."""
        entries = self._do(lambda: self._planes.events.entries(SessionKeys(sid).metrics))
        found = [(entry.id.ms, metric_events.decode(entry.fields[EVENT])) for entry in entries]
        return [(at_ms, event) for at_ms, event in found if isinstance(event, kind)]


@contextmanager
def lone_edge(media_url: str, events_url: str) -> Iterator[LoneEdge]:
    """Run an ingress in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    stack = AsyncExitStack()

    async def begin() -> Service:
        planes = Planes(RedisBus(media_url), RedisBus(events_url))
        stack.push_async_callback(planes.close)
        return await stack.enter_async_context(serve(planes, IngressSettings(), web_root=WEB_ROOT))

    try:
        yield LoneEdge(loop, asyncio.run_coroutine_threadsafe(begin(), loop).result(30), stack)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
