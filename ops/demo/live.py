"""The live part of the demo: a Mirage of its own, and sessions through its public edge."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ops.client import MirageClient
from ops.commands.common import LOCAL_USER
from ops.commands.up import ready
from ops.demo.footage import FPS, UnusableInput, wav
from ops.demo.inputs import DemoInputs, moving_portrait
from ops.demo.publish import Recording, Script, perform
from ops.settings import read
from ops.supervisor import System, login_code
from schemas.bus.base import Bus
from schemas.bus.redis import RedisBus
from schemas.errors import InputRejected, MirageError
from schemas.events import EVENT, MetricEvent, WorkerTook, metric_events
from schemas.names import Kind, SessionKeys

_WORKERS_S = 60.0
_SYNTHETIC_SHARE, _SYNTHETIC_MAX_S = 0.25, 5.0
_KEPT = ("MIRAGE_ENGINE", "MIRAGE_VOICE_ENGINE", "MIRAGE_CHUNK_MS", "MIRAGE_SERVER_BINARY", "MIRAGE_LOG_LEVEL")
"""Settings of the user's that the demo's own system obeys too."""

Progress = Callable[[str, float], None]
"""Told what is being done, and how much of it is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Played:
    """One session, played to its end."""

    recording: Recording
    script: Script
    events: list[MetricEvent]


@dataclass(frozen=True, slots=True)
class Performance:
    """What the demo measures: the talking head, and the portrait that moves in full 512x512 detail."""

    main: Played
    synthetic: Played
    restarts: list[str]
    """Processes of the system that died on the way."""


@contextmanager
def own_system(environ: Mapping[str, str]) -> Iterator[System]:
    """Run a whole Mirage in a temporary data directory, on a free port of this machine alone."""
    kept = {name: value for name, value in environ.items() if not name.startswith("MIRAGE_") or name in _KEPT}
    with tempfile.TemporaryDirectory(prefix="mirage-demo-") as folder:
        own = {"MIRAGE_LOG_LEVEL": "warning"} | kept | {"MIRAGE_DATA_DIR": folder, "MIRAGE_PORT": "0"}
        with System(read(own), environ=own) as system:
            yield system


async def perform_all(system: System, inputs: DemoInputs, seconds: float, progress: Progress) -> Performance:
    """Log in, enrol, and play both sessions. Raises a `MirageError` that says what did not work."""
    stop = asyncio.Event()
    tending = asyncio.create_task(system.tend(stop))
    events = RedisBus(system.events_url)
    try:
        progress("starting", 0)
        await ready(system.http_url, stop)
        client = MirageClient(system.http_url)
        await client.login(await login_code(events, LOCAL_USER))
        progress("enrolling", 0)
        face, voice = await _enrol(client, inputs)
        main = Script(inputs.clip, inputs.speech, seconds)
        short_s = min(_SYNTHETIC_MAX_S, max(1.0, _SYNTHETIC_SHARE * seconds))
        synthetic = Script(moving_portrait(inputs.portrait_bgr, round(short_s * FPS)), inputs.speech, short_s)
        played = await _play(client, events, main, (face, voice), _share(progress, "streaming", seconds))
        timed = await _play(client, events, synthetic, (face, voice), _share(progress, "timing at 512x512", short_s))
    finally:
        stop.set()
        await asyncio.gather(tending, return_exceptions=True)
        await events.close()
    return Performance(played, timed, [child.name for child in system.children if child.restarts])


def _share(progress: Progress, what: str, seconds: float) -> Callable[[float], None]:
    return lambda at_s: progress(what, at_s / seconds)


async def _enrol(client: MirageClient, inputs: DemoInputs) -> tuple[str, str]:
    try:
        face = await client.add_identity(inputs.face_consent, portrait=inputs.portrait)
    except InputRejected as error:
        raise UnusableInput("--portrait", str(error)) from None
    try:
        voice = await client.add_identity(inputs.voice_consent, voice=wav(inputs.voice))
    except InputRejected as error:
        raise UnusableInput("--voice", str(error)) from None
    return face, voice


async def _play(
    client: MirageClient, events: Bus, script: Script, worn: tuple[str, str], progress: Callable[[float], None]
) -> Played:
    recording = Recording(await client.create_session(face=worn[0], voice=worn[1]))
    metrics = SessionKeys(recording.sid).metrics
    await _workers(events, metrics)
    await perform(client, recording, script, progress)
    await client.end_session(recording.sid)
    return Played(recording, script, await _events(events, metrics))


async def _events(events: Bus, stream: str) -> list[MetricEvent]:
    return [metric_events.decode(entry.fields[EVENT]) for entry in await events.entries(stream)]


async def _workers(events: Bus, stream: str) -> None:
    """Wait until workers hold the session: what is measured is a running system, not its start."""
    due = asyncio.get_running_loop().time() + _WORKERS_S
    while True:
        took = {event.kind for event in await _events(events, stream) if isinstance(event, WorkerTook)}
        missing = {Kind.VIDEO.value, Kind.VOICE.value, Kind.POLICY.value} - took
        if not missing:
            return
        if asyncio.get_running_loop().time() > due:
            raise MirageError(f"no {' or '.join(sorted(missing))} worker took the session; see the log above")
        await asyncio.sleep(0.05)
