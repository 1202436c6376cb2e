"""What a recording says of its media: who converted what, from which state, and when outputs are alike."""

import math

import numpy as np
import pytest
import simplejpeg
from click.testing import CliRunner

from ops.bench.synthetic import SyntheticSession
from ops.cli import cli
from ops.replay.media.likeness import LSD_DB, PSNR_DB, jpeg_psnr_db, lsd_db, pcm_lsd_db, psnr_db
from ops.replay.media.plan import AUDIO, VIDEO, Made, Step, owners, steps
from ops.replay.media.run import Unreplayable, replay_media
from ops.replay.media.verdict import MediaVerdict, Tally
from ops.settings import Settings
from schemas.bus.base import Entry
from schemas.bus.memory import MemoryBus
from schemas.events import EVENT, DropReason, MetricEvent, VideoDropped, VideoProcessed, WorkerTook
from schemas.ids import ZERO, EntryId
from schemas.media import MediaEntry, MediaHeader, pack
from schemas.message import encode
from tests.ops.archive.sessions import MadeUp
from workers.media_task import Converted

HEADER = MediaHeader(pts_us=0, sent_us=0, worn=("someone",))


def processed(ms: int, epoch: int, outcome: str = "swapped") -> VideoProcessed:
    return VideoProcessed(
        id=f"{ms}-0", pts_us=0, epoch=epoch, runtime_us=1, stages_us={}, faces=1,
        detector_ran=False, confidence_pm=1, outcome=outcome,
    )  # fmt: skip


def dropped(ms: int, epoch: int) -> VideoDropped:
    return VideoDropped(id=f"{ms}-0", pts_us=0, epoch=epoch, reason=DropReason.STALE)


def took(epoch: int, kind: str = "video") -> WorkerTook:
    return WorkerTook(kind=kind, worker="w", epoch=epoch)


def metrics(*events: MetricEvent) -> list[Entry]:
    return [Entry(EntryId(n + 1, 0), {EVENT: encode(event)}) for n, event in enumerate(events)]


def inputs(*at: int) -> list[Entry]:
    return [Entry(EntryId(ms, 0), pack(HEADER, b"in")) for ms in at]


def output(ms: int, epoch: int) -> Entry:
    return Entry(EntryId(ms, 0), pack(HEADER, b"out", processed(ms, epoch)))


def test_an_owner_begins_where_outcomes_that_count_end() -> None:
    """Drops are settled too; what a zombie says after it was fenced off is not."""
    found = owners(
        metrics(took(5), processed(10, 5), dropped(20, 5), took(9), dropped(40, 5), processed(20, 9), took(12)), VIDEO
    )
    assert found.checkpoints == {5: ZERO, 9: EntryId(20, 0), 12: EntryId(20, 0)}
    assert found.published == {EntryId(10, 0): 5, EntryId(20, 0): 9}


def test_media_have_owners_of_their_own() -> None:
    events = metrics(took(5), processed(10, 5), took(7, "voice"))
    assert owners(events, AUDIO).checkpoints == {7: ZERO}
    assert owners([*events, Entry(EntryId(99, 0), {EVENT: b"newer"})], VIDEO).checkpoints == {5: ZERO}


def test_what_came_out_is_fed_in_order_and_what_was_dropped_is_not() -> None:
    found = list(steps(inputs(10, 20, 30), [output(10, 5), output(30, 9)], {}))
    assert [(step.id.ms, step.epoch, step.made is not None) for step in found] == [
        (10, 5, True),
        (20, None, False),
        (30, 9, True),
    ]


def test_an_input_whose_output_is_not_recorded_is_fed_all_the_same() -> None:
    """The engine saw it: what follows was made from the state that it left."""
    (step,) = steps(inputs(10), [], {EntryId(10, 0): 5})
    assert (step.epoch, step.made) == (5, None)


def test_an_output_without_its_input_is_noticed_unless_the_recording_ends_before_it() -> None:
    found = list(steps(inputs(20), [output(10, 5), output(20, 5), output(30, 5)], {}))
    assert [(step.id.ms, step.entry is None) for step in found] == [(10, True), (20, False)]


def test_psnr_is_that_of_the_mean_square_error() -> None:
    frame = np.full((8, 8, 3), 100, np.uint8)
    assert psnr_db(frame, frame) == math.inf
    assert psnr_db(frame, frame + 1) == pytest.approx(20 * math.log10(255))
    assert psnr_db(frame, frame[:4]) == 0
    assert jpeg_psnr_db(b"no jpeg", b"no jpeg either") == 0


def test_log_spectral_distance_is_that_of_a_level() -> None:
    """Twice the level is 6 dB in every bin that is heard; what is below the floor is equal."""
    noise = np.random.default_rng(1).normal(0, 3000, 4800).astype(np.int16)
    assert lsd_db(noise, noise) == 0
    assert lsd_db(noise, noise * 2) == pytest.approx(6.02, abs=0.3)
    assert lsd_db(np.zeros(1536, np.int16), np.ones(1536, np.int16)) == 0
    assert lsd_db(noise, noise[:100]) == math.inf
    assert pcm_lsd_db(b"\0" * 3, b"\0" * 3) == math.inf
    hum = (3000 * np.sin(np.arange(4800) / 9)).astype(np.int16)
    assert lsd_db(noise, hum) > 10 * LSD_DB


def compared(
    tally: Tally, recorded: bytes, now: bytes, *, header: MediaHeader = HEADER, outcome: str = "swapped"
) -> None:
    step = Step(EntryId(10, 0), None, None, 5)
    made = Made(MediaEntry(step.id, header, recorded), processed(10, 5))
    tally.compare(step, 70_000, made, Converted(HEADER, now), processed(10, 5, outcome))


def jpeg(shade: int, noise: int = 0) -> bytes:
    frame = np.full((64, 64, 3), shade, np.uint8)
    frame += np.random.default_rng(3).integers(0, noise + 1, frame.shape, np.uint8)
    return bytes(simplejpeg.encode_jpeg(frame, 95, "BGR"))


def test_outputs_of_an_exact_engine_that_only_look_alike_are_different() -> None:
    exact, alike = Tally(VIDEO, exact=True, engine="e"), Tally(VIDEO, exact=False, engine="e")
    for tally in (exact, alike):
        compared(tally, jpeg(90), jpeg(90))
        compared(tally, jpeg(90), jpeg(90, noise=2))
        assert (tally.compared, tally.equal) == (2, 1)
    assert (exact.different, alike.different) == (1, 0)
    assert alike.as_json()["psnr_db_min"] > PSNR_DB
    compared(alike, jpeg(90), jpeg(120))
    assert alike.first is not None
    assert (alike.first.kind, alike.first.bound, alike.first.pts_us) == ("data", PSNR_DB, 70_000)
    assert alike.first.figure is not None
    assert alike.first.figure < PSNR_DB


def test_another_stamp_or_outcome_is_a_difference_however_alike_the_data() -> None:
    stamped, became = Tally(VIDEO, exact=False, engine="e"), Tally(VIDEO, exact=False, engine="e")
    compared(stamped, b"same", b"same", header=MediaHeader(pts_us=1, sent_us=77, worn=("someone",)))
    compared(became, b"same", b"same", outcome="covered")
    assert stamped.first is not None
    assert (stamped.first.kind, stamped.first.detail) == ("header", "pts_us was 1, is 0")
    assert became.first is not None
    assert (became.first.kind, became.first.detail) == ("outcome", "was swapped (1 faces), is covered (1 faces)")


def test_an_output_that_does_not_say_what_it_wears_is_compared_without() -> None:
    tally = Tally(VIDEO, exact=True, engine="e")
    compared(tally, b"same", b"same", header=MediaHeader(pts_us=0, sent_us=5))
    assert tally.first is None


def test_the_first_difference_is_the_one_with_the_smaller_id() -> None:
    video, audio = Tally(VIDEO, exact=True, engine="e"), Tally(AUDIO, exact=True, engine="e")
    video.failed(Step(EntryId(30, 0), None, None, 5), 0, "an error")
    audio.failed(Step(EntryId(20, 0), None, None, 5), 0, "an error")
    verdict = MediaVerdict("s", [video, audio], [], 1.0, 1.0)
    assert verdict.first_difference is audio.first
    assert verdict.exit_code == 3
    assert MediaVerdict("s", [video], ["a gap"], 1.0, 1.0).exit_code == 1
    assert MediaVerdict("s", [], [], 1.0, 1.0).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--speed", "4"),
        ("--policy", "--close"),
        ("--media", "--speed", "0"),
        ("--media", "--report", "out.html"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli, ["replay", "any", *arguments]).exit_code == 2


async def test_a_session_without_media_says_what_is_missing() -> None:
    events = MemoryBus()
    with pytest.raises(Unreplayable, match="nothing to compare"):
        await replay_media(SyntheticSession(2), Settings(), events)
    with pytest.raises(Unreplayable, match="damaged"):
        await replay_media(MadeUp({}, record=None), Settings(), events)
