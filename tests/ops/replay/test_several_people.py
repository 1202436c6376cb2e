"""Two people wear two identities; whoever takes the session over, live or replayed, knows whose is whose."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest

from ops.enrolment import enrol_face
from ops.replay.media.plan import VIDEO, steps
from ops.replay.media.player import MediaPlayer
from ops.replay.media.verdict import Tally
from ops.shipped import public_consent
from ops.shipped_media import media_file
from schemas.bus.base import Entry, Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.consent import Identity
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.media import MediaHeader, pack, unpack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from workers.engine_thread import EngineThread
from workers.video.batcher import FaceBatcher
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import Frame
from workers.video.task import VideoConverter

FACES = ("as-taken", "mirrored")
KEYS = SessionKeys("s")
ALONE, BEFORE, AFTER = 5, 2, 3  # the detector rests for four frames


def png(picture: Frame) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


def woman() -> Frame:
    picture = cv2.imdecode(np.frombuffer(media_file("portrait.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def frame(n: int) -> Frame:
    """Return a picture 640 px wide: at first someone on the right, then another on the left, too."""
    face = np.asarray(cv2.resize(woman(), (300, 300), interpolation=cv2.INTER_AREA), np.uint8)
    shown = np.full((360, 640, 3), 90, np.uint8)
    shown[30:330, 330:630] = face
    if n >= ALONE:
        shown[30:330, 10:310] = face[:, ::-1]
    return shown


def inputs() -> Iterator[Entry]:
    for n in range(ALONE + BEFORE + AFTER):
        jpeg = cv2.imencode(".jpg", frame(n))[1].tobytes()
        yield Entry(EntryId(1000 + 50 * n, 0), pack(MediaHeader(pts_us=50_000 * n, sent_us=0, size=0), jpeg))


@pytest.fixture
async def identities() -> IdentityStore:
    store = IdentityStore(MemoryBus())
    for name, picture in zip(FACES, (woman(), woman()[:, ::-1]), strict=True):
        consent = public_consent("face", "portrait.png")
        one = Identity(id=name, label=name, kinds=("face",), owner="o", created_ms=0, consent=consent)
        await store.add(one, face=enrol_face(png(np.ascontiguousarray(picture))), voice=None)
    return store


@pytest.mark.parametrize("worn", [FACES, FACES[:1]])
async def test_a_takeover_leaves_everyone_their_face_and_so_does_its_replay(
    identities: IdentityStore, worn: tuple[str, ...]
) -> None:
    """Where there is one identity, whoever came later is left without."""
    record = SessionRecord(sid="s", owner="o", faces=worn, max_faces=2, created_ms=0, expires_ms=1 << 53)
    thread = EngineThread()
    faces = FaceBatcher(EmbeddedFaceEngine(), thread, window_ms=0)
    bus = MemoryBus()
    outputs, published = [], {}

    def converter(lease: Lease) -> VideoConverter:
        return VideoConverter(lease, faces=faces, identities=identities)

    for epoch, (first, last) in enumerate(((0, ALONE + BEFORE), (ALONE + BEFORE, ALONE + BEFORE + AFTER)), start=1):
        fence = Fence(KEYS.epoch, Kind.VIDEO, epoch)
        owner = converter(Lease(Kind.VIDEO, KEYS, record, "w", fence, Planes(bus, bus), SystemClock()))
        await owner.open()
        await owner.prime(EntryId(1000 + 50 * first - 1, 0))
        for entry in list(inputs())[first:last]:
            made = await owner.convert(unpack(entry.id, entry.fields))
            outcome = owner.processed(unpack(entry.id, entry.fields), runtime_us=0, epoch=epoch)
            fields = pack(made.header, made.data, outcome)
            await bus.publish(KEYS.video_out, entry.id, fields)
            outputs.append(Entry(entry.id, fields))
            published[entry.id] = epoch

    on_the_right = [dict.fromkeys(FACES) | _sides(entry) for entry in outputs]
    both = {"as-taken": True, "mirrored": False if len(worn) > 1 else None}
    assert on_the_right == [{"as-taken": True, "mirrored": None}] * ALONE + [both] * (BEFORE + AFTER)

    async def anybody(kind: str, identity_id: str) -> None:
        assert (kind, identity_id) in {("face", name) for name in FACES}

    async def at_once(entry_id: EntryId) -> None:
        del entry_id

    tally = Tally(VIDEO, exact=True, engine="embedded")
    player = MediaPlayer(VIDEO, record, make=converter, permit=anybody, pace=at_once, tally=tally)
    await player.play(steps(inputs(), outputs, published), {1: EntryId(0, 0), 2: outputs[ALONE + BEFORE - 1].id})
    assert (tally.equal, tally.different, tally.owners) == (ALONE + BEFORE + AFTER, 0, 2)
    thread.close()


def _sides(entry: Entry) -> dict[str, bool]:
    """Return identity → whether who wears it is on the right."""
    header = unpack(entry.id, entry.fields).header
    return {FACES[place.slot]: place.x_pm > 500 for place in header.places}
