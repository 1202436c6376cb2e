"""A neural voice that draws noise inside its graph: with fixed noise its replay is exact, without it is not."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from ops.replay.media.plan import AUDIO, steps
from ops.replay.media.player import MediaPlayer
from ops.replay.media.verdict import Tally
from ops.shipped import public_consent
from ops.shipped_media import media_file
from schemas.bus.base import Entry, Fence, Planes
from schemas.bus.memory import MemoryBus
from schemas.clock import SystemClock
from schemas.consent import Identity
from schemas.facts import SettingsChanged
from schemas.identity_store import Enrolment, IdentityStore
from schemas.ids import EntryId
from schemas.media import SAMPLE_RATE, MediaHeader, pack, unpack
from schemas.names import Kind, SessionKeys
from schemas.session_store import SessionRecord
from schemas.task import Lease
from tests.workers.voice.neural.loading import load, worn
from tests.workers.voice.neural.standins import voice
from tests.workers.voice.speech import LADDER, convert, read_wav
from workers.engine_thread import EngineThread
from workers.voice.neural.engine import NeuralVoiceEngine
from workers.voice.neural.settings import NeuralVoiceSettings
from workers.voice.task import VoiceConverter

VOICES = {"low": 150.0, "high": 240.0}  # Hz
KEYS = SessionKeys("s")
RECORD = SessionRecord(sid="s", owner="o", voice="low", created_ms=0, expires_ms=1 << 53)
CHUNKS, CHANGED, TAKEN = 30, 10, 20


def inputs() -> Iterator[Entry]:
    """Yield speech in chunks of every size."""
    speech, at = read_wav(media_file("speaker_a.wav")), 0
    for n, size in zip(range(CHUNKS), itertools.cycle(LADDER), strict=False):
        header = MediaHeader(pts_us=at * 1_000_000 // SAMPLE_RATE, sent_us=0, chunk_ms=size // 16)
        yield Entry(EntryId(1000 + 200 * n, 0), pack(header, speech[at : at + size].astype("<i2").tobytes()))
        at += size


def engine(*, fixed: bool, others: int = 0) -> NeuralVoiceEngine:
    """Return an engine that is loaded anew, and has spoken for `others` since: they drew of its noise, too."""
    loaded = load(voice(noisy=True), settings=NeuralVoiceSettings(fixed_noise=fixed))
    for _ in range(others):
        convert(loaded.open(worn(loaded)), read_wav(media_file("speaker_b.wav"))[:SAMPLE_RATE])
    return loaded


async def enrolled(by: NeuralVoiceEngine) -> IdentityStore:
    store = IdentityStore(MemoryBus())
    for name, hertz in VOICES.items():
        consent = public_consent("voice", "speaker_b.wav")
        one = Identity(id=name, label=name, kinds=("voice",), owner="o", created_ms=0, consent=consent)
        await store.add(one, face=None, voice=Enrolment(b"", {by.name: worn(by, hertz=hertz)}))
    return store


@pytest.mark.parametrize("fixed", [True, False])
async def test_a_replay_is_exact_where_noise_follows_the_frame(*, fixed: bool) -> None:
    """Through a change of voice and a takeover, in an engine loaded anew; and only so: nothing else fixes the noise."""
    live, thread, bus = engine(fixed=fixed), EngineThread(), MemoryBus()
    identities = await enrolled(live)
    outputs: list[Entry] = []
    published = {}
    for epoch, (first, last) in enumerate(((0, TAKEN), (TAKEN, CHUNKS)), start=1):
        fence = Fence(KEYS.epoch, Kind.VOICE, epoch)
        lease = Lease(Kind.VOICE, KEYS, RECORD, "w", fence, Planes(bus, bus), SystemClock())
        owner = VoiceConverter(lease, engine=live, thread=thread, identities=identities)
        await owner.open()
        if epoch > 1:
            await owner.change(SettingsChanged(voice="high"))
            await owner.prime(outputs[-1].id)
        for number, entry in itertools.islice(enumerate(inputs()), first, last):
            await bus.publish(KEYS.audio_in, entry.id, entry.fields)
            if number == CHANGED:
                await owner.change(SettingsChanged(voice="high"))
            made = await owner.convert(unpack(entry.id, entry.fields))
            outcome = owner.processed(unpack(entry.id, entry.fields), runtime_us=0, epoch=epoch)
            outputs.append(Entry(entry.id, pack(made.header, made.data, outcome)))
            published[entry.id] = epoch
    loud = [np.abs(np.frombuffer(unpack(entry.id, entry.fields).data, "<i2")).max() for entry in outputs]
    assert np.count_nonzero(np.array(loud) > 1000) > CHUNKS // 2

    async def anybody(kind: str, identity_id: str) -> None:
        assert (kind, identity_id) in {("voice", name) for name in VOICES}

    async def at_once(entry_id: EntryId) -> None:
        del entry_id

    again = engine(fixed=fixed, others=1)
    player = MediaPlayer(
        AUDIO,
        RECORD,
        make=lambda lease: VoiceConverter(lease, engine=again, thread=thread, identities=identities),
        permit=anybody,
        pace=at_once,
        tally=(tally := Tally(AUDIO, exact=True, engine=again.name)),
    )
    await player.play(steps(inputs(), outputs, published), {1: EntryId(0, 0), 2: outputs[TAKEN - 1].id})
    thread.close()
    assert (tally.compared, tally.owners, tally.changes) == (CHUNKS, 2, 1)
    if fixed:
        assert (tally.equal, tally.different) == (CHUNKS, 0)
    else:
        assert tally.different > CHUNKS // 2
        assert tally.first is not None
        assert tally.first.kind == "data"
