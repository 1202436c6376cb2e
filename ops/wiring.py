"""The composition root: every object graph of Mirage is built here, from settings, explicitly."""

import os
import secrets
import socket

from ops.installation import Installation
from ops.settings import Settings
from ops.warm_up import warm_face, warm_voice
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
from workers.freshness import Limits, Order
from workers.media_task import MediaTask
from workers.runner import Runner
from workers.runner_settings import RunnerSettings
from workers.video.engine import FaceEngine
from workers.video.task import VideoConverter
from workers.voice.engine import VoiceEngine
from workers.voice.task import VoiceConverter


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


def face_engine(settings: Settings) -> FaceEngine:
    """Return the configured face engine, warm; `auto` is the embedded one."""
    from workers.video.embedded import EmbeddedFaceEngine  # noqa: PLC0415 - loads models: only where it is driven

    if settings.engine not in ("auto", "embedded"):
        raise Misconfigured(f"MIRAGE_ENGINE={settings.engine} is not available in this build")
    return warm_face(EmbeddedFaceEngine())


def voice_engine(settings: Settings) -> VoiceEngine:
    """Return the configured voice engine, warm; `auto` is the embedded one."""
    from workers.voice.embedded import EmbeddedVoiceEngine  # noqa: PLC0415 - loads models: only where it is driven

    if settings.voice_engine not in ("auto", "embedded"):
        raise Misconfigured(f"MIRAGE_VOICE_ENGINE={settings.voice_engine} is not available in this build")
    return warm_voice(EmbeddedVoiceEngine())


def limits_for(kind: Kind, settings: Settings) -> Limits:
    """Return what a media worker drops. Sound is always worked on in order."""
    if kind is Kind.VIDEO:
        return Limits(Order(settings.video_order), settings.video_deadline_ms)
    return Limits(Order.FIFO, settings.audio_deadline_ms)


def video_factory(planes: Planes, settings: Settings, engine: FaceEngine, thread: EngineThread) -> TaskFactory:
    """Return the maker of video tasks."""
    identities = IdentityStore(planes.events)
    limits = limits_for(Kind.VIDEO, settings)

    def make(lease: Lease) -> SessionTask:
        converter = VideoConverter(lease, engine=engine, thread=thread, identities=identities)
        return MediaTask(lease, converter, limits=limits, retention_ms=settings.media_retention_s * 1000)

    return make


def voice_factory(planes: Planes, settings: Settings, engine: VoiceEngine, thread: EngineThread) -> TaskFactory:
    """Return the maker of voice tasks."""
    identities = IdentityStore(planes.events)
    limits = limits_for(Kind.VOICE, settings)

    def make(lease: Lease) -> SessionTask:
        converter = VoiceConverter(lease, engine=engine, thread=thread, identities=identities)
        return MediaTask(lease, converter, limits=limits, retention_ms=settings.media_retention_s * 1000)

    return make


def task_factory(kind: Kind, planes: Planes, settings: Settings, thread: EngineThread) -> TaskFactory:
    """Return the maker of tasks of `kind`, with its engine loaded."""
    match kind:
        case Kind.VIDEO:
            return video_factory(planes, settings, face_engine(settings), thread)
        case Kind.VOICE:
            return voice_factory(planes, settings, voice_engine(settings), thread)
        case Kind.POLICY:
            return PolicyTask
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
    """Return the lease numbers: beats at a sixth of the lease; policy folds many sessions at little cost."""
    capacity = settings.sessions_per_worker if kind is not Kind.POLICY else 1024
    return RunnerSettings(capacity=capacity, lease_ms=settings.lease_ms, beat_ms=max(50, settings.lease_ms // 6))
