"""The media half of the composition root: engines and the tasks that drive them. Loads numpy and OpenCV."""

import structlog

from ops.engines import face_engine, voice_engine
from ops.settings import Settings
from schemas.bus.base import Planes
from schemas.identity_store import IdentityStore
from schemas.names import Kind
from schemas.task import Lease, SessionTask, TaskFactory
from workers.engine_thread import EngineThread
from workers.faults import FaultPlan, fault_plan
from workers.freshness import Limits, Order
from workers.media_task import MediaTask
from workers.video.batcher import FaceBatcher
from workers.video.engine import FaceEngine
from workers.video.task import VideoConverter
from workers.voice.engine import VoiceEngine
from workers.voice.task import VoiceConverter

log = structlog.get_logger(__name__)


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


def media_factory(kind: Kind, planes: Planes, settings: Settings, thread: EngineThread) -> TaskFactory:
    """Return the maker of video or voice tasks, with their engine loaded."""
    if kind is Kind.VIDEO:
        return video_factory(planes, settings, face_engine(settings), thread)
    return voice_factory(planes, settings, voice_engine(settings), thread)


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
