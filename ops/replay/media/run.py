"""One media replay from its source to its verdict: both media side by side, each on an engine thread of its own."""

import asyncio
import time

from ops.archive.model import RecordedSession
from ops.engines import EMBEDDED, face_engine, voice_engine
from ops.replay.media.plan import AUDIO, VIDEO, Medium, owners, steps
from ops.replay.media.player import MakeConverter, MediaPlayer, Pace
from ops.replay.media.verdict import MediaVerdict, Tally
from ops.replay.media.worn import permits
from ops.settings import Settings
from schemas.bus.base import Bus
from schemas.errors import CodecError, MirageError
from schemas.events import EVENT
from schemas.facts import SettingsChanged, control_facts
from schemas.identity_store import IdentityStore
from schemas.ids import EntryId
from schemas.names import Kind
from schemas.session_store import SessionRecord
from workers.engine_thread import EngineThread
from workers.video.batcher import FaceBatcher
from workers.video.task import VideoConverter
from workers.voice.task import VoiceConverter


class Unreplayable(MirageError):
    """The recording lacks what a media replay cannot do without."""

    code = "unreplayable"


async def replay_media(
    session: RecordedSession, settings: Settings, events: Bus, *, speed: float | None = None, close: bool = False
) -> MediaVerdict:
    """Convert the session's input again with the engines that `settings` lead to, and compare every output.

    `events` holds the identities. `speed`: as many times faster than it was recorded; None is as fast as possible.
    `close`: outputs of the embedded engine need not be equal, only alike, as for a recording of another machine.
    Raises `Refused` when an identity may not be worn any more, `Unreplayable` for a recording without media or record,
    and what making an engine raises.
    """
    record, media = replayable(session)
    threads = [EngineThread() for _ in media]
    try:
        made = [await _maker(medium, settings, events, thread) for medium, thread in zip(media, threads, strict=True)]
        tallies = [
            Tally(medium, exact=engine == EMBEDDED and not close, engine=engine)
            for medium, (engine, _) in zip(media, made, strict=True)
        ]
        first, last = _span(session, media)
        pace, began = pacer(first, speed), time.monotonic()
        async with asyncio.TaskGroup() as playing:
            for tally, (_, make) in zip(tallies, made, strict=True):
                playing.create_task(_play(session, record, make, tally, events, pace))
        took_s = time.monotonic() - began
    except ExceptionGroup as failures:
        raise _first(failures) from None
    finally:
        for thread in threads:
            thread.close()
    problems = [*session.problems, *_problems(session, tallies)]
    return MediaVerdict(session.sid, tallies, problems, took_s, (last.ms - first.ms) / 1000)


def replayable(session: RecordedSession) -> tuple[SessionRecord, list[Medium]]:
    """Return the session's record, and the media that have outputs to compare; raises `Unreplayable` without either."""
    record = session.record
    if record is None:
        raise Unreplayable(f"the record of session {session.sid} is damaged: whose face and voice it wore is not known")
    media = [medium for medium in (VIDEO, AUDIO) if any(True for _ in session.entries(medium.output))]
    if not media:
        raise Unreplayable(
            f"session {session.sid} has no pictures and no sound that came out: nothing to compare. Media stay on their"
            " streams for MIRAGE_MEDIA_RETENTION_S; a session that is created with `record` keeps them in its archive"
        )
    return record, media


def pacer(first: EntryId, speed: float | None) -> Pace:
    """Return what waits until an input is due: `speed` times faster than IDs rise from `first`, None at once."""
    began = time.monotonic()

    async def at_once(entry_id: EntryId) -> None:
        del entry_id

    async def in_time(entry_id: EntryId) -> None:
        await asyncio.sleep(wait_s(entry_id, first, speed=speed or 1, elapsed_s=time.monotonic() - began))

    return at_once if speed is None else in_time


def wait_s(entry_id: EntryId, first: EntryId, *, speed: float, elapsed_s: float) -> float:
    """Return the seconds until an input is due, `elapsed_s` after `first` was."""
    return max(0.0, (entry_id.ms - first.ms) / 1000 / speed - elapsed_s)


async def _play(
    session: RecordedSession, record: SessionRecord, make: MakeConverter, tally: Tally, events: Bus, pace: Pace
) -> None:
    medium = tally.medium
    owned = owners(session.entries("metrics"), medium)
    player = MediaPlayer(medium, record, make=make, permit=permits(events, record), pace=pace, tally=tally)
    inputs, outputs = session.entries(medium.input), session.entries(medium.output)
    await player.play(steps(inputs, outputs, owned.published), owned.checkpoints)


async def _maker(medium: Medium, settings: Settings, events: Bus, thread: EngineThread) -> tuple[str, MakeConverter]:
    """Return the engine's name and what makes converters on it, as `ops.wiring` does for workers."""
    identities = IdentityStore(events)
    if medium.kind is Kind.VIDEO:
        faces = FaceBatcher(await thread.run(face_engine, settings), thread, window_ms=settings.batch_window_ms)

        return faces.engine.name, lambda lease: VideoConverter(lease, faces=faces, identities=identities)
    voice = await thread.run(voice_engine, settings)
    return voice.name, lambda lease: VoiceConverter(lease, engine=voice, thread=thread, identities=identities)


def _span(session: RecordedSession, media: list[Medium]) -> tuple[EntryId, EntryId]:
    """Return the first and the last ID that came out."""
    ids = [entry.id for medium in media for entry in session.entries(medium.output)]
    return min(ids), max(ids)


def _problems(session: RecordedSession, tallies: list[Tally]) -> list[str]:
    problems = [
        f"{tally.medium.input}: {len(tally.lacking)} inputs that were converted are not recorded, the first of them"
        f" {tally.lacking[0]}: outputs after it may differ"
        for tally in tallies
        if tally.lacking
    ]
    if any(tally.unsaid for tally in tallies) and _changed(session):
        problems.append(
            "the session changed its face or voice, and its outputs do not say which of them wore which (an older build"
            " recorded it): all are compared with what it wore at first"
        )
    return problems


def _changed(session: RecordedSession) -> bool:
    for entry in session.entries("control"):
        try:
            if isinstance(control_facts.decode(entry.fields.get(EVENT, b"")), SettingsChanged):
                return True
        except CodecError:
            continue
    return False


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    one = failures.exceptions[0]
    return _first(one) if isinstance(one, ExceptionGroup) else one
