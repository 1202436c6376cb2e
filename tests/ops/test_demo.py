"""The demo: its parts by themselves, its judgement on material that does leak, and one real short run."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from ops.client import Kind, ReceivedMedia
from ops.demo import measure
from ops.demo.figures import percentiles, skew
from ops.demo.footage import FPS, FRAME_US, UnusableInput, decode, encode, read_sound, read_video, there_and_back, wav
from ops.demo.inputs import Choice, DemoInputs, consent, load
from ops.demo.live import Performance, Played
from ops.demo.player import Heard, Seen, play
from ops.demo.publish import PIECE_US, Arrival, Departure, Due, Recording, Script, schedule
from ops.demo.report import problems
from ops.shipped_media import media_file
from workers.voice.engine import SAMPLE_RATE

SECONDS = 6
CHUNK_US = 192_000


# --- pacing


def test_the_schedule_never_drifts() -> None:
    """Every time is a multiple of its own period, however long it goes on, and sends are in order of time."""
    dues = list(schedule(60))
    assert [due.at_us for due in dues] == sorted(due.at_us for due in dues)
    video = [due for due in dues if due.kind == "video"]
    audio = [due for due in dues if due.kind == "audio"]
    assert [(due.at_us, due.pts_us) for due in video] == [(k * FRAME_US, k * FRAME_US) for k in range(60 * FPS)]
    assert len(audio) == 3000
    assert all(due.at_us == due.pts_us + PIECE_US for due in audio), "a microphone delivers what has been spoken"


def test_a_clip_is_played_forward_and_back_without_a_jump() -> None:
    order = [there_and_back(number, 4) for number in range(13)]
    assert order == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert {there_and_back(number, 1) for number in range(3)} == {0}


# --- the player


def chunks(count: int, *, late_us: dict[int, int] | None = None, missing: frozenset[int] = frozenset()) -> list[Heard]:
    late = late_us or {}
    numbers = (number for number in range(count) if number not in missing)
    return [Heard((n + 1) * CHUNK_US + late.get(n, 0), n * CHUNK_US, CHUNK_US) for n in numbers]


def frames(count: int, *, delay_us: int = 30_000) -> list[Seen]:
    return [Seen(n * FRAME_US + delay_us, n * FRAME_US) for n in range(count)]


def test_pictures_in_time_are_at_most_one_frame_behind_the_sound() -> None:
    showing = play(chunks(10), frames(40))
    assert showing.underruns == 0
    assert min(showing.skew_us) > -FRAME_US - 17_000
    assert max(showing.skew_us) <= 0
    assert showing.started_us == CHUNK_US + 200_000
    assert len(showing.skew_us) == pytest.approx(10 * CHUNK_US * 60 / 1e6, abs=2)


def test_late_pictures_show_as_skew() -> None:
    """Sound plays 392 ms after it was spoken; pictures that take 700 ms are 308 ms behind it."""
    showing = play(chunks(20), frames(80, delay_us=700_000))
    assert np.median(showing.skew_us) == pytest.approx(-308_000 - FRAME_US / 2, abs=FRAME_US)
    assert skew(showing)["p50"] == pytest.approx(-333, abs=50)


def test_sound_that_comes_too_late_is_one_underrun() -> None:
    showing = play(chunks(10, late_us={4: 400_000, 5: 300_000, 6: 200_000}), frames(40))
    assert showing.underruns == 1


def test_a_missing_chunk_passes_in_silence_and_moves_nothing() -> None:
    whole, holed = play(chunks(10), frames(40)), play(chunks(10, missing=frozenset({4})), frames(40))
    assert holed.underruns == 0
    assert holed.skew_us == whole.skew_us


def test_a_picture_never_goes_back() -> None:
    disordered = [Seen(10_000, 100_000), Seen(600_000, 50_000)]
    skews = play(chunks(5), disordered).skew_us
    assert all(later < earlier for earlier, later in itertools.pairwise(skews)), "one picture, which grows old"


def test_without_sound_nothing_is_presented() -> None:
    assert play([], frames(3)).skew_us == []
    assert skew(play([], [])) == {"p50": None, "p95": None}


def test_percentiles() -> None:
    assert percentiles([1.0, 2.0, 3.0], 50, 99) == {"p50": 2.0, "p99": 3.0}
    assert percentiles([], 50) == {"p50": None}


# --- inputs


def write_video(path: Path, *, fps: int, count: int) -> None:
    """Write `count` even grey frames, 320x180, each lighter than the one before."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "bgr0"
        for number in range(count):
            grey = np.full((180, 320, 3), 40 + 8 * number, np.uint8)
            picture = av.VideoFrame.from_ndarray(grey, format="bgr24")
            picture.pts, picture.time_base = number, Fraction(1, fps)
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))


@pytest.mark.parametrize(("fps", "count", "expected"), [(10, 10, 20), (20, 10, 10), (40, 20, 10)])
def test_a_video_of_any_rate_becomes_twenty_square_frames_a_second(
    tmp_path: Path, fps: int, count: int, expected: int
) -> None:
    write_video(tmp_path / "in.mkv", fps=fps, count=count)
    clip = read_video(tmp_path / "in.mkv", 30)
    assert len(clip.jpegs) == expected
    greys = [float(decode(jpeg).mean()) for jpeg in clip.jpegs]
    assert decode(clip.jpegs[0]).shape == (512, 512, 3)
    assert greys == pytest.approx([40 + 8 * (number * fps // 20) for number in range(expected)], abs=1)


def test_unusable_files_are_named_with_their_option(tmp_path: Path) -> None:
    junk = tmp_path / "junk.bin"
    junk.write_bytes(b"junk" * 100)
    for option in ("video", "speech", "portrait", "voice"):
        with pytest.raises(UnusableInput, match=f"--{option}: .*junk.bin"):
            load(Choice(**{option: junk}), 3)


def test_sound_survives_the_round_trip(tmp_path: Path) -> None:
    tone = (8000 * np.sin(np.arange(2 * SAMPLE_RATE) * 0.1)).astype(np.int16)
    (tmp_path / "tone.wav").write_bytes(wav(tone))
    np.testing.assert_array_equal(read_sound(tmp_path / "tone.wav", "--speech"), tone)


def test_the_shipped_media_are_what_the_manifest_says() -> None:
    manifest = json.loads(media_file("manifest.json").read_text("utf-8"))
    shipped = {path.name for path in media_file("manifest.json").parent.iterdir() if path.suffix in (".png", ".wav")}
    assert set(manifest) == shipped
    for name, about in manifest.items():
        assert hashlib.sha256(media_file(name).read_bytes()).hexdigest() == about["sha256"]


def test_own_files_are_granted_to_nobody_else() -> None:
    assert consent("face", "portrait.png")["granted_to"] == "*"
    own = consent("face", None)
    assert own["granted_to"] == "local"
    assert "attests" in own["evidence"]["statement"]


# --- the judgement


@pytest.fixture(scope="module")
def inputs() -> DemoInputs:
    return load(Choice(), 3)


def came_back(inputs: DemoInputs, jpegs: list[bytes], pcm: bytes) -> tuple[Script, Recording]:
    """Return a session whose output was `jpegs` and `pcm`."""
    script = Script(inputs.clip, inputs.speech, 3)
    recording = Recording("sid")
    for number, jpeg in enumerate(jpegs):
        recording.sent.append(Departure(Due(number * FRAME_US, "video", number, number * FRAME_US), number, 0))
        recording.arrived.append(arrival("video", number * FRAME_US, number, jpeg))
    recording.arrived.append(arrival("audio", 0, 0, pcm))
    return script, recording


def arrival(kind: Kind, pts_us: int, seq: int, data: bytes) -> Arrival:
    return Arrival(0, ReceivedMedia(kind, pts_us, seq, data))


def test_a_raw_face_and_a_raw_voice_are_found(inputs: DemoInputs) -> None:
    """Were the input to come straight back, every frame and the voiced windows would count as leaked."""
    script, recording = came_back(inputs, inputs.clip.jpegs[:3], inputs.speech.astype("<i2").tobytes())
    shown = measure.pictures(inputs, script, recording, lambda _: None)
    assert (shown.leaked, shown.judged) == (3, 3)
    assert shown.to_original == pytest.approx(1)
    heard = measure.sound(inputs, script, recording)
    assert heard.leaked > 5
    assert heard.before == heard.after
    found = {
        "frames_out": 3,
        "outcomes": {"video": {"swapped": 3}, "voice": {"converted": 1}},
        "raw_frames_leaked": shown.leaked,
        "raw_sound_windows_leaked": heard.leaked,
        "viewer": {"identical": True},
    }
    played = Played(recording, script, [])
    wrong = problems(found, Performance(played, played, ["video-1"]))
    assert len(wrong) == 3
    assert wrong[0] == "3 frames show the performer's raw face"


def test_a_covered_face_and_silence_do_not_leak(inputs: DemoInputs) -> None:
    covered = [encode(np.full((512, 512, 3), 90, np.uint8))] * 2
    script, recording = came_back(inputs, covered, bytes(len(inputs.speech) * 2))
    assert measure.sound(inputs, script, recording).leaked == 0
    assert measure.pictures(inputs, script, recording, lambda _: None).leaked == 0


# --- a real run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run the command as a user does, for six seconds: its folder and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "results"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MIRAGE_")}
    argv = [sys.executable, "-m", "ops.cli", "demo", "--seconds", str(SECONDS), "--json", "--out", str(out)]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return out, json.loads(done.stdout)


def test_the_figures_are_complete(run: tuple[Path, dict[str, Any]]) -> None:
    out, found = run
    assert json.loads((out / "metrics.json").read_text("utf-8")) == found
    assert found["frames_in"] == SECONDS * FPS
    assert found["frames_dropped"] == found["frames_in"] - found["frames_out"]
    assert sum(found["drop_reasons"].values()) == found["frames_dropped"]
    assert found["fps_out"] > 0
    for kind, stages in (("video", {"decode", "detect", "track", "swap", "paste", "encode"}), ("voice", {"f0"})):
        timed = found["stage_ms"][kind]
        assert stages | {"total"} <= set(timed)
        assert all(set(values) == {"p50", "p95", "p99"} for values in timed.values())
        assert all(value is not None for values in timed.values() for value in values.values())
    assert found["stage_ms_512_synthetic"]["video"]["total"]["p50"] > 0
    for key, wanted in (
        ("added_latency_ms", {"p50", "p99"}),
        ("audio_ratio", {"p50", "p95"}),
        ("av_skew_ms", {"p50", "p95"}),
        ("voice_similarity", {"before", "after"}),
        ("identity", {"to_source", "to_original"}),
    ):
        assert set(found[key]) == wanted
        assert None not in found[key].values(), key


def test_it_swaps_converts_and_leaks_nothing(run: tuple[Path, dict[str, Any]]) -> None:
    _, found = run
    assert found["raw_frames_leaked"] == 0
    assert found["raw_sound_windows_leaked"] == 0
    assert found["frames_judged"] == found["frames_out"]
    assert found["frames_out"] > 0.9 * found["frames_in"]
    assert found["identity"]["to_source"] > found["identity"]["to_original"]
    assert found["voice_similarity"]["after"] > found["voice_similarity"]["before"]
    assert found["viewer"]["identical"]


def test_the_video_plays_with_the_converted_sound(run: tuple[Path, dict[str, Any]]) -> None:
    out, _ = run
    with av.open(str(out / "before_after.mp4")) as container:
        (video,), (audio,) = container.streams.video, container.streams.audio
        assert (video.width, video.height) == (1024, 512)
        pictures = [float(frame.time or 0) for frame in container.decode(video)]
        assert pictures == pytest.approx([number / FPS for number in range(SECONDS * FPS)])
        container.seek(0)
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio)])
    assert len(sound) / audio.rate == pytest.approx(SECONDS, abs=0.1)
    assert np.sqrt(np.mean(np.square(sound))) > 0.01, "there is speech in it"
    assert (out / "contact_sheet.jpg").stat().st_size > 20_000
