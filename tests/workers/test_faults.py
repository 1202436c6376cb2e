"""`MIRAGE_FAULT`: what it accepts, and that engines are slowed on exactly the input that it names."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from ops.media_wiring import faults_for
from ops.settings import Settings, read
from schemas.bus.base import Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.errors import Misconfigured
from schemas.events import AudioProcessed, VideoProcessed
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import MediaEntry, MediaHeader, Place
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from tests.workers.test_voice_task import Delaying, DelayingVoices
from workers.engine_thread import EngineThread
from workers.faults import STAGES, FaultPlan, fault_plan
from workers.video.batcher import FaceBatcher
from workers.video.engine import FaceOutcome, FaceResult, FaceSession, FaceSettings, FaceTuning, Frame
from workers.video.task import VideoConverter
from workers.voice.engine import Pcm, VoiceOutcome, VoiceResult, VoiceStream
from workers.voice.task import VoiceConverter

FIGURE_US = 7


class Session:
    """A session with nothing to remember."""

    def __init__(self) -> None:
        self.tuning = FaceTuning()
        self.places: tuple[Place, ...] = ()

    def remember(self, places: Sequence[Place]) -> None:
        self.places = tuple(places)


class Faces:
    """An engine whose figures are known: the detector runs on every other frame."""

    name = "known"
    batch = 1

    def __init__(self) -> None:
        self.frames = 0

    def enrol(self, portrait: Frame) -> bytes:
        return portrait.tobytes()

    def open(self, settings: FaceSettings, worn: Sequence[bytes | None]) -> FaceSession:
        del settings, worn
        return Session()

    def process(self, jobs: Sequence[tuple[FaceSession, Frame, int]]) -> list[FaceResult]:
        self.frames += 1
        detected = self.frames % 2 == 1
        stages_us = {"swap": FIGURE_US} | ({"detect": FIGURE_US} if detected else {})
        return [FaceResult(job[1], FaceOutcome.SWAPPED, 1, detected, 900, stages_us) for job in jobs]


class KnownStream(Delaying):
    """A stream whose figures are known: chunks that begin with zero are gated."""

    def process(self, pcm: Pcm) -> VoiceResult:
        outcome = VoiceOutcome.CONVERTED if pcm[0] else VoiceOutcome.GATED
        return VoiceResult(pcm, outcome, dict.fromkeys(STAGES[Kind.VOICE], FIGURE_US))


class KnownVoices(DelayingVoices):
    """An engine of such streams."""

    def open(self, template: bytes | None) -> VoiceStream:
        del template
        return KnownStream()


def lease_of(kind: Kind) -> tuple[Lease, IdentityStore]:
    bus, keys = MemoryBus(), SessionKeys("s")
    record = SessionRecord(sid="s", owner="o", created_ms=0, expires_ms=1)
    lease = Lease(kind, keys, record, "w", Fence(keys.epoch, kind, 1), Planes(bus, bus), SystemClock())
    return lease, IdentityStore(bus)


async def video_stages(text: str, *, size: int = 64) -> list[dict[str, int]]:
    """Return the stage figures of ten frames, 50 ms apart."""
    lease, identities = lease_of(Kind.VIDEO)
    faults = fault_plan(text, Kind.VIDEO)
    converter = VideoConverter(
        lease, faces=FaceBatcher(Faces(), EngineThread(), window_ms=0), identities=identities, faults=faults
    )
    await converter.open()
    jpeg = bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    found = []
    for n in range(10):
        entry = MediaEntry(EntryId(n + 1, 0), MediaHeader(pts_us=n * 50_000, sent_us=0, size=size), jpeg)
        await converter.convert(entry)
        outcome = converter.processed(entry, runtime_us=0, epoch=1)
        assert isinstance(outcome, VideoProcessed)
        found.append(outcome.stages_us)
    return found


async def test_only_frames_in_the_span_are_slowed_and_the_stage_says_by_how_much() -> None:
    figures = await video_stages("video.swap:+3ms@100ms..200ms")
    assert [one["swap"] for one in figures] == [FIGURE_US + (3_000 if n in (2, 3) else 0) for n in range(10)]


async def test_a_stage_is_slowed_where_it_ran_and_faults_on_one_stage_add_up() -> None:
    figures = await video_stages("video.detect:+2ms, video.swap:+1ms , video.swap:+2ms@0s..50ms")
    assert [one.get("detect") for one in figures] == [FIGURE_US + 2_000, None] * 5
    assert [one["swap"] for one in figures] == [FIGURE_US + 3_000] + [FIGURE_US + 1_000] * 9


@pytest.mark.parametrize(("size", "factor"), [(64, 1), (32, 4)])
async def test_a_delay_by_area_follows_the_size_of_the_frame_that_is_worked_on(size: int, factor: int) -> None:
    (first, *_) = await video_stages("video.swap:+256ms*area", size=size)
    assert first["swap"] == FIGURE_US + 256_000 // 64 // factor


async def test_the_engine_thread_is_held_as_long() -> None:
    """Beside the figure there is a real wait, on the thread that other sessions share."""
    lease, identities = lease_of(Kind.VIDEO)
    thread, clock = EngineThread(), SystemClock()
    faults = fault_plan("video.encode:+30ms", Kind.VIDEO)
    converter = VideoConverter(
        lease, faces=FaceBatcher(Faces(), thread, window_ms=0), identities=identities, faults=faults
    )
    await converter.open()
    jpeg = bytes(cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    began = clock.monotonic_us()
    await converter.convert(MediaEntry(EntryId(1, 0), MediaHeader(pts_us=0, sent_us=0), jpeg))
    assert clock.monotonic_us() - began >= 30_000


async def test_converted_chunks_are_slowed_and_gated_ones_are_not() -> None:
    lease, identities = lease_of(Kind.VOICE)
    faults = fault_plan("voice.convert:+2ms@0s..1s", Kind.VOICE)
    converter = VoiceConverter(lease, engine=KnownVoices(), thread=EngineThread(), identities=identities, faults=faults)
    await converter.open()
    figures = []
    for n, level in enumerate((5, 0, 5)):
        entry = MediaEntry(
            EntryId(n + 1, 0), MediaHeader(pts_us=n * 500_000, sent_us=0), np.full(512, level, "<i2").tobytes()
        )
        await converter.convert(entry)
        outcome = converter.processed(entry, runtime_us=0, epoch=1)
        assert isinstance(outcome, AudioProcessed)
        figures.append(outcome.stages_us)
    assert [one["convert"] for one in figures] == [FIGURE_US + 2_000, FIGURE_US, FIGURE_US]
    assert {one["post"] for one in figures} == {FIGURE_US}


def test_a_plan_holds_the_faults_of_its_kind() -> None:
    text = "video.swap:+60ms@10s..20s,voice.f0:+1s"
    assert fault_plan(text, Kind.VIDEO).delay_us("swap", 10_000_000) == 60_000
    assert fault_plan(text, Kind.VIDEO).delay_us("swap", 9_999_999) == 0
    assert fault_plan(text, Kind.VIDEO).delay_us("swap", 20_000_000) == 0
    assert fault_plan(text, Kind.VIDEO).delay_us("f0", 10_000_000) == 0
    assert fault_plan(text, Kind.VOICE).delay_us("f0", -32_000) == 1_000_000
    assert fault_plan(" ", Kind.VIDEO) == FaultPlan()


@pytest.mark.parametrize(
    "text",
    [
        "swap:+60ms",
        "video.convert:+60ms",
        "policy.fold:+60ms",
        "video.swap:60ms",
        "video.swap:+60",
        "video.swap:+60ms@10s",
        "video.swap:+60ms@20s..10s",
        "video.swap:+60ms@10s..10s",
        "voice.convert:+60ms*area",
        "video.swap:+60ms,,",
        "video.swap:+60ms;video.swap:+60ms",
    ],
)
def test_a_bad_fault_is_refused_with_what_is_accepted(text: str) -> None:
    for kind in (Kind.VIDEO, Kind.VOICE):
        with pytest.raises(Misconfigured, match=r"KIND\.STAGE:\+60ms.*video\.swap.*voice\.convert"):
            fault_plan(text, kind)
    with pytest.raises(Misconfigured, match=r"MIRAGE_FAULT=.*KIND\.STAGE"):
        read({"MIRAGE_FAULT": text})


def test_a_worker_that_is_slowed_on_purpose_says_so() -> None:
    settings = read({"MIRAGE_FAULT": "video.swap:+60ms"})
    with capture_logs() as lines:
        assert faults_for(Kind.VIDEO, settings).faults
        assert not faults_for(Kind.VOICE, settings).faults
        assert not faults_for(Kind.VIDEO, Settings()).faults
    assert [(line["log_level"], line["kind"], line["fault"]) for line in lines] == [
        ("warning", "video", "video.swap:+60ms")
    ]
