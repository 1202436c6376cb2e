"""F0 that needs no download: on the grid of 10 ms, whatever its own frames are."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import pytest

from tests.workers.voice.speech import Held
from tests.workers.voice.test_f0 import harmonics
from workers.models.runtime import Runtime
from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural.f0 import PitchStream, TrackerStream, centres, on_grid
from workers.voice.neural.swift import SWIFT_CONTRACT, SwiftStream, swift_graph
from workers.voice.neural.windows import History, Window, plan


def swift() -> PitchStream:
    return SwiftStream(Runtime("cpu").open(swift_graph(), SWIFT_CONTRACT, label="SwiftF0"))


SOURCES: list[Callable[[], PitchStream]] = [TrackerStream, swift]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("size", [512, 1536, 3072])
def test_a_glide_is_found_where_it_is(source: Callable[[], PitchStream], size: int) -> None:
    """Within a third of a semitone, up to 50 ms before the newest sample."""
    track = np.geomspace(110, 240, 31 * 1536)
    sound = np.asarray(harmonics(track), np.float32)
    stream, history = source(), History(40_000)
    while history.end + size <= len(sound):
        chunk = sound[history.end : history.end + size]
        history.push(chunk)
        for block in np.split(chunk, size // 512):
            stream.hear(block)
        if history.end % (3 * size):
            continue
        window = plan(history.end, size, context=6400, delay=32)
        found, at = stream.track(history, window), centres(window)
        assert found.shape == (window.frames,)
        inside = (at > max(8000, window.start + 3000)) & (at < history.end - 800)
        assert (np.abs(1200 * np.log2(np.maximum(found[inside], 1) / track[at[inside]])) < 33).all()


@pytest.mark.parametrize(
    ("size", "cents", "parted"), [(512, 33, 0.12), (1536, 25, 0.08), (3072, 25, 0.08), (5120, 6, 0.02)]
)
@pytest.mark.parametrize("who", ["a", "b"])
def test_swift_s_pitch_of_speech_is_near_that_of_the_whole_file(
    size: int, cents: float, parted: float, who: str, voices: MappingProxyType[str, Held]
) -> None:
    """Near, not equal: its frames of 16 ms start with each window, and next to a border it hears less.

    In 95 of 100 voiced frames within `cents`; whether a frame is voiced differs in at most `parted` of all.
    """
    pcm = voices[who].held_out[: 8 * SAMPLE_RATE // size * size]
    sound = np.asarray(pcm, np.float32) / np.float32(32768)
    kept = History(len(sound))
    kept.push(sound)
    whole = swift().track(kept, Window(0, len(sound) // 320 * 320, 0, len(sound)))
    stream, history, found, expected = swift(), History(40_000), [], []
    for chunk in np.split(sound, len(sound) // size):
        history.push(chunk)
        window = plan(history.end, size, context=6400, delay=32)
        frames = np.arange(max(0, -(-window.emit // 160)), max(0, (window.emit + window.block) // 160))
        found.append(stream.track(history, window)[frames - window.first_frame])
        expected.append(whole[frames])
    here, there = np.concatenate(found), np.concatenate(expected)
    voiced = (here > 0) & (there > 0)
    assert voiced.sum() > 200
    assert np.percentile(np.abs(1200 * np.log2(here[voiced] / there[voiced])), 95) < cents
    assert np.mean((here > 0) != (there > 0)) < parted


@pytest.mark.parametrize("source", SOURCES)
def test_silence_is_unvoiced(source: Callable[[], PitchStream]) -> None:
    stream, history = source(), History(40_000)
    for _ in range(30):
        history.push(np.zeros(512, np.float32))
        stream.hear(np.zeros(512, np.float32))
    assert not stream.track(history, plan(history.end, 512, context=6400, delay=32)).any()


def test_between_frames_the_logarithm_is_interpolated() -> None:
    at, f0 = np.array([0, 100, 200, 300]), np.array([100.0, 400.0, 0.0, 200.0])
    found = on_grid(at, f0, np.array([0, 50, 100, 149, 151, 290, 400]))
    np.testing.assert_allclose(found, [100, 200, 400, 400, 0, 200, 200], rtol=1e-6)


def test_a_tracker_that_missed_sound_says_so() -> None:
    history = History(20_000)
    history.push(np.zeros(512, np.float32))
    with pytest.raises(ValueError, match="heard 0 samples, the history has 512"):
        TrackerStream().track(history, plan(512, 512, context=6400, delay=32))
