"""The live part of the demo: a Mirage of its own, and sessions through its public edge."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.archive.file import archive_path
from ops.archive.model import EmptyArchive
from ops.archive.reader import open_archive
from ops.client import MirageClient
from ops.commands.common import LOCAL_USER
from ops.commands.up import ready
from ops.demo.footage import FPS, UnusableInput, wav
from ops.demo.inputs import DemoInputs, moving_portrait
from ops.demo.publish import Recording, Script, perform
from ops.engines import models_folder
from ops.settings import read
from ops.supervisor import System, login_code
from schemas.bus.base import Bus
from schemas.bus.redis import RedisBus
from schemas.errors import InputRejected, MirageError, NotFound
from schemas.events import EVENT, MetricEvent, WorkerTook, metric_events
from schemas.names import Kind, SessionKeys
from schemas.session_store import WORK

_WORKERS_S, _ARCHIVE_S = 60.0, 30.0
_SYNTHETIC_SHARE, _SYNTHETIC_MAX_S = 0.25, 5.0
_KEPT = {
    *("MIRAGE_ENGINE", "MIRAGE_VOICE_ENGINE", "MIRAGE_CHUNK_MS", "MIRAGE_SERVER_BINARY", "MIRAGE_LOG_LEVEL"),
    *("MIRAGE_PROVIDER", "MIRAGE_INSWAPPER", "MIRAGE_VOICE_MODEL", "MIRAGE_VOICE_F0", "MIRAGE_VOICE_OVERLAP_MS"),
    *("MIRAGE_VOICE_SEMITONES", "MIRAGE_VOICE_FORMANTS", "MIRAGE_VOICE_INDEX_RATE", "MIRAGE_VOICE_FIXED_NOISE"),
    *("MIRAGE_SWAP_LIGHT", "MIRAGE_SWAP_KEEP_MOUTH", "MIRAGE_CODEFORMER_EVERY", "MIRAGE_CODEFORMER_FIDELITY"),
    *("MIRAGE_CUDA_GRAPHS", "MIRAGE_OCCLUSION", "MIRAGE_VOICE_FIXED_BLOCKS"),
}
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
    synthetic: Played | None
    """None where only the talking head was played."""
    restarts: list[str]
    """Processes of the system that died on the way."""


@contextmanager
def own_system(environ: Mapping[str, str], *, fault: str = "", archives: Path | None = None) -> Iterator[System]:
    """Run a whole Mirage in a temporary data directory, on a free port of this machine alone.

    `fault` is its `MIRAGE_FAULT`. What it records, in `archives` where that is given, does not name this machine.
    """
    kept = {name: value for name, value in environ.items() if not name.startswith("MIRAGE_") or name in _KEPT}
    with tempfile.TemporaryDirectory(prefix="mirage-demo-") as folder:
        own = {"MIRAGE_LOG_LEVEL": "warning"} | kept | {"MIRAGE_DATA_DIR": folder, "MIRAGE_PORT": "0"}
        own |= {"MIRAGE_WORKER_NAME": "demo", "MIRAGE_FAULT": fault}
        own["MIRAGE_ARCHIVE_DIR"] = str((archives or Path(folder) / "archives").absolute())
        own["MIRAGE_MODELS_DIR"] = str(models_folder(read(environ)).absolute())
        with System(read(own), environ=own) as system:
            yield system


async def perform_all(system: System, inputs: DemoInputs, seconds: float, progress: Progress) -> Performance:
    """Log in, enrol, and play both sessions. Raises a `MirageError` that says what did not work."""
    async with _opened(system, inputs, progress) as stage:
        main = Script(inputs.clip, inputs.speech, seconds)
        short_s = min(_SYNTHETIC_MAX_S, max(1.0, _SYNTHETIC_SHARE * seconds))
        synthetic = Script(moving_portrait(inputs.portrait_bgr, round(short_s * FPS)), inputs.speech, short_s)
        played = await _play(stage, main, _share(progress, "streaming", seconds))
        timed = await _play(stage, synthetic, _share(progress, "timing at 512x512", short_s))
    return Performance(played, timed, _restarts(system))


async def perform_recorded(
    system: System, inputs: DemoInputs, script: Script, archives: Path, archive: Path, progress: Progress
) -> Performance:
    """Play and record one session; the system's folder `archives` gives its archive to the file `archive`.

    Raises as `perform_all` does.
    """
    async with _opened(system, inputs, progress) as stage:
        played = await _play(stage, script, _share(progress, "streaming", script.seconds), record=True)
        await _recorded(archive_path(archives, played.recording.sid), archive)
    return Performance(played, None, _restarts(system))


@dataclass(frozen=True, slots=True)
class _Stage:
    """A running system that knows who plays what."""

    client: MirageClient
    events: Bus
    face: str
    voice: str


@asynccontextmanager
async def _opened(system: System, inputs: DemoInputs, progress: Progress) -> AsyncIterator[_Stage]:
    stop = asyncio.Event()
    tending = asyncio.create_task(system.tend(stop))
    events = RedisBus(system.events_url)
    try:
        progress("starting", 0)
        await ready(system.http_url, stop)
        client = MirageClient(system.http_url)
        await client.login(await login_code(events, LOCAL_USER))
        progress("enrolling", 0)
        yield _Stage(client, events, *await _enrol(client, inputs))
    finally:
        stop.set()
        await asyncio.gather(tending, return_exceptions=True)
        await events.close()


def _restarts(system: System) -> list[str]:
    return [child.name for child in system.children if child.restarts]


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


async def _play(stage: _Stage, script: Script, progress: Callable[[float], None], *, record: bool = False) -> Played:
    client = stage.client
    recording = Recording(await client.create_session(face=stage.face, voice=stage.voice, record=record))
    metrics = SessionKeys(recording.sid).metrics
    await _workers(stage.events, metrics, (*WORK, Kind.RECORD) if record else WORK)
    await perform(client, recording, script, progress)
    await client.end_session(recording.sid)
    return Played(recording, script, await _events(stage.events, metrics))


async def _recorded(archive: Path, to: Path) -> None:
    """Move an archive to where it stays, when the recorder has put the index to it."""
    due = asyncio.get_running_loop().time() + _ARCHIVE_S
    while True:
        try:
            problems = await asyncio.to_thread(lambda: open_archive(archive).problems)
        except (NotFound, EmptyArchive) as error:
            problems = (str(error),)
        if not problems:
            await asyncio.to_thread(shutil.move, archive, to)
            return
        if asyncio.get_running_loop().time() > due:
            raise MirageError(f"the session was not recorded whole: {'; '.join(problems)}")
        await asyncio.sleep(0.5)


async def _events(events: Bus, stream: str) -> list[MetricEvent]:
    return [metric_events.decode(entry.fields[EVENT]) for entry in await events.entries(stream)]


async def _workers(events: Bus, stream: str, wanted: Sequence[Kind]) -> None:
    """Wait until workers hold the session: what is measured is a running system, not its start."""
    due = asyncio.get_running_loop().time() + _WORKERS_S
    while True:
        took = {event.kind for event in await _events(events, stream) if isinstance(event, WorkerTook)}
        missing = {kind.value for kind in wanted} - took
        if not missing:
            return
        if asyncio.get_running_loop().time() > due:
            raise MirageError(f"no {' or '.join(sorted(missing))} worker took the session; see the log above")
        await asyncio.sleep(0.05)
