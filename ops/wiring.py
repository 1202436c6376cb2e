"""The composition root: every object graph of Mirage is built here, from settings, explicitly."""

import os
import secrets
import socket
from pathlib import Path

import structlog

from ops.engines import face_engine, voice_engine
from ops.installation import Installation
from ops.settings import Settings
from policy.task import PolicyTask
from schemas.bus.base import Planes
from schemas.bus.redis import RedisBus
from schemas.clock import Clock, SystemClock
from schemas.errors import Misconfigured
from schemas.identity_store import IdentityStore
from schemas.names import Kind
from schemas.session_store import SessionStore
from schemas.task import Lease, SessionTask, TaskFactory
from workers.engine_thread import EngineThread
from workers.faults import FaultPlan, fault_plan
from workers.freshness import Limits, Order
from workers.media_task import MediaTask
from workers.runner import Runner
from workers.runner_settings import RunnerSettings
from workers.video.batcher import FaceBatcher
from workers.video.engine import FaceEngine
from workers.video.task import VideoConverter
from workers.voice.engine import VoiceEngine
from workers.voice.task import VoiceConverter

log = structlog.get_logger(__name__)


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


def limits_for(kind: Kind, settings: Settings) -> Limits:
    """Return what a media worker drops. Sound is always worked on in order."""
    if kind is Kind.VIDEO:
        return Limits(Order(settings.video_order), settings.video_deadline_ms)
    return Limits(Order.FIFO, settings.audio_deadline_ms)


def faults_for(kind: Kind, settings: Settings) -> FaultPlan:
    """Return how workers of `kind` are slowed on purpose; a worker that is says so in its log."""
    plan = fault_plan(settings.fault, kind)
    if plan.faults:
        log.warning("MIRAGE_FAULT slows this worker", kind=kind.value, fault=settings.fault)
    return plan


def video_factory(planes: Planes, settings: Settings, engine: FaceEngine, thread: EngineThread) -> TaskFactory:
    """Return the maker of video tasks."""
    identities = IdentityStore(planes.events)
    limits, faults = limits_for(Kind.VIDEO, settings), faults_for(Kind.VIDEO, settings)
    faces = FaceBatcher(engine, thread, window_ms=settings.batch_window_ms)

    def make(lease: Lease) -> SessionTask:
        converter = VideoConverter(lease, faces=faces, identities=identities, faults=faults)
        return MediaTask(lease, converter, limits=limits, retention_ms=settings.media_retention_s * 1000, engine=engine)

    return make


def voice_factory(planes: Planes, settings: Settings, engine: VoiceEngine, thread: EngineThread) -> TaskFactory:
    """Return the maker of voice tasks."""
    identities = IdentityStore(planes.events)
    limits, faults = limits_for(Kind.VOICE, settings), faults_for(Kind.VOICE, settings)

    def make(lease: Lease) -> SessionTask:
        converter = VoiceConverter(lease, engine=engine, thread=thread, identities=identities, faults=faults)
        return MediaTask(lease, converter, limits=limits, retention_ms=settings.media_retention_s * 1000, engine=engine)

    return make


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
        case Kind.VIDEO:
            return video_factory(planes, settings, face_engine(settings), thread)
        case Kind.VOICE:
            return voice_factory(planes, settings, voice_engine(settings), thread)
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
        worker=f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}",
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
