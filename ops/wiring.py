"""The composition root: every object graph of Mirage is built here, from settings, explicitly."""

import os
import secrets
import socket
from pathlib import Path

from ops.installation import Installation
from ops.settings import Settings
from policy.task import PolicyTask
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus
from schemas.clock import Clock, SystemClock
from schemas.errors import Misconfigured
from schemas.names import Kind
from schemas.session_store import SessionStore
from schemas.task import TaskFactory
from workers.engine_thread import EngineThread
from workers.runner import Runner
from workers.runner_settings import RunnerSettings


def open_planes(settings: Settings, installation: Installation) -> Planes:
    """Return buses on the configured servers, or on those of the running `mirage up`.

    Raises `Misconfigured` when there is neither.
    """
    media, events = settings.redis_url, settings.events_url or settings.redis_url
    if media is None or events is None:
        running = installation.running()
        if running is None:
            raise Misconfigured(
                "no stream server: start `mirage up` on this data directory, or set MIRAGE_REDIS_URL to a server"
            )
        media, events = media or running.media_url, events or running.events_url
    bus = RedisBus(media)
    return Planes(bus, bus if events == media else RedisBus(events))


async def check_planes(planes: Planes) -> None:
    """Refuse servers that Mirage cannot work on; raises `Misconfigured` or `BusUnavailable`."""
    for bus in {id(bus): bus for bus in (planes.media, planes.events)}.values():
        if isinstance(bus, RedisBus):
            await bus.check()


def session_store(planes: Planes, settings: Settings) -> SessionStore:
    """Return the sessions on `planes`."""
    return SessionStore(planes, media_retention_s=settings.media_retention_s, event_ttl_s=settings.event_ttl_s)


def archive_dir(settings: Settings) -> Path:
    """Return the folder of recorded sessions."""
    return settings.archive_dir or settings.data_dir / "archives"


def record_factory(settings: Settings) -> TaskFactory:
    """Return the maker of record tasks."""
    from ops.archive.recorder import RecordTask  # noqa: PLC0415 - loads the archive's libraries: only where it is driven

    return lambda lease: RecordTask(lease, folder=archive_dir(settings))


def task_factory(kind: Kind, planes: Planes, settings: Settings, thread: EngineThread) -> TaskFactory:
    """Return the maker of tasks of `kind`, with its engine loaded."""
    match kind:
        case Kind.VIDEO | Kind.VOICE:
            from ops.media_wiring import media_factory  # noqa: PLC0415 - loads numpy and OpenCV: only where it is driven

            return media_factory(kind, planes, settings, thread)
        case Kind.POLICY:
            sessions = session_store(planes, settings)
            return lambda lease: PolicyTask(lease, sessions)
        case Kind.RECORD:
            return record_factory(settings)
        case _:
            raise Misconfigured(f"there are no {kind} workers")


def runner(
    kind: Kind, planes: Planes, settings: Settings, factory: TaskFactory, *, clock: Clock | None = None
) -> Runner:
    """Return a runner of `kind` under a name that no other worker ever had."""
    return Runner(
        kind,
        worker=f"{settings.worker_name or socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
        planes=planes,
        sessions=session_store(planes, settings),
        factory=factory,
        clock=clock or SystemClock(),
        settings=runner_settings(kind, settings),
    )


def runner_settings(kind: Kind, settings: Settings) -> RunnerSettings:
    """Return the lease numbers: beats at a sixth of the lease; folding and copying cost little a session."""
    capacity = {Kind.POLICY: 1024, Kind.RECORD: 64}.get(kind, settings.sessions_per_worker)
    return RunnerSettings(capacity=capacity, lease_ms=settings.lease_ms, beat_ms=max(50, settings.lease_ms // 6))
