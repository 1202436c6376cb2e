"""Windows on the grid, joins, and the way down to 16 kHz: each stage against the whole file."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.workers.voice.speech import LADDER
from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural.level import LevelMatch, to_pcm
from workers.voice.neural.resample import DELAY, RATES, Decimator
from workers.voice.neural.sola import Splicer
from workers.voice.neural.windows import GRID, LOOKAHEAD, History, Sound, plan, room

RANDOM = np.random.default_rng(9)


@given(end=st.integers(1, 2000), block=st.integers(1, 10), context=st.integers(1600, 32_000))
def test_a_window_lies_on_the_grid_and_covers_its_block(end: int, block: int, context: int) -> None:
    window = plan(512 * end, 512 * block, context=context, delay=DELAY)
    assert window.start % GRID == window.samples % GRID == 0
    assert window.start + window.samples <= 512 * end
    assert window.start <= window.emit - context + DELAY
    assert window.emit + window.block == 512 * end - LOOKAHEAD + DELAY
    assert window.emit + window.block + room(DELAY) <= window.start + window.samples
    assert window.samples == plan(512, 512 * block, context=context, delay=DELAY).samples


def test_blocks_follow_each_other_whatever_their_lengths() -> None:
    end, covered = 0, None
    for size in LADDER * 3:
        end += size
        window = plan(end, size, context=6400, delay=DELAY)
        assert covered in (None, window.emit)
        covered = window.emit + window.block


def test_history_is_read_by_position_and_nothing_is_made_up() -> None:
    history = History(1000)
    for start in range(0, 3000, 300):
        history.push(np.arange(start, start + 300, dtype=np.float32))
    np.testing.assert_array_equal(history.read(2100, 2600), np.arange(2100, 2600))
    with pytest.raises(IndexError, match="2000 to 3000 kept"):
        history.read(1999, 2100)
    with pytest.raises(IndexError):
        history.read(2900, 3001)


@pytest.mark.parametrize("overlap", [0, 480, 1440])
def test_windows_of_one_sound_join_to_that_sound(overlap: int) -> None:
    """SOLA on the grid: where windows agree nothing is shifted and nothing is changed."""
    sound = RANDOM.standard_normal(48_000).astype(np.float32)
    splicer = Splicer(overlap, 480)
    joined, at = [], 0
    for size in (1536, 4608, 9216, 1536):
        joined.append(splicer.push(sound[at : at + size + splicer.beyond]))
        at += size
    np.testing.assert_allclose(np.concatenate(joined), sound[:at], atol=1e-6)


def test_a_window_of_another_phase_is_shifted_into_phase() -> None:
    """The sine source starts anew in every window; no amplitude is lost in the fade."""
    n = np.arange(20_000)
    splicer = Splicer(1440, 480)
    first = splicer.push(np.sin(2 * np.pi * 220 / 48_000 * n[: 9216 + 1920]).astype(np.float32))
    second = splicer.push(np.sin(2 * np.pi * 220 / 48_000 * n[: 9216 + 1920] + 2.0).astype(np.float32))
    joined = np.concatenate((first, second))
    bend = np.abs(np.diff(joined, 2))
    assert bend.max() < 1.2 * bend[1000:5000].max()
    around = joined[9216 : 9216 + 1440].reshape(4, 360)
    assert np.abs(around).max(axis=1).min() > 0.97


def test_no_overlap_is_a_hard_join() -> None:
    splicer = Splicer(0, 480)
    assert splicer.beyond == 0
    one, two = np.ones(480, np.float32), -np.ones(480, np.float32)
    np.testing.assert_array_equal(np.concatenate((splicer.push(one), splicer.push(two))), np.concatenate((one, two)))


def test_after_a_reset_a_block_starts_as_it_is() -> None:
    splicer = Splicer(480, 100)
    splicer.push(np.ones(2000, np.float32))
    splicer.reset()
    sound = RANDOM.standard_normal(2000).astype(np.float32)
    np.testing.assert_array_equal(splicer.push(sound), sound[:1420])


def resample_whole(sound: Sound, rate: int) -> Sound:
    return Decimator(rate).push(sound)


@pytest.mark.parametrize("rate", RATES)
def test_a_resampled_stream_is_the_resampled_file(rate: int) -> None:
    sound = RANDOM.standard_normal(rate).astype(np.float32)
    decimator, parts, at = Decimator(rate), [], 0
    for size in (512, 1536, 5120, 2048, 3072):
        count = size * rate // SAMPLE_RATE
        parts.append(decimator.push(sound[at : at + count]))
        at += count
    np.testing.assert_allclose(np.concatenate(parts), resample_whole(sound[:at], rate), atol=2e-6)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [100.0, 1000.0, 6500.0])
def test_a_tone_keeps_its_phase_and_level(rate: int, hertz: float) -> None:
    """`DELAY` samples late, to a thousandth."""
    tone = np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)
    expected = np.sin(2 * np.pi * hertz * (np.arange(SAMPLE_RATE) - DELAY) / SAMPLE_RATE)
    np.testing.assert_allclose(resample_whole(tone, rate)[100:], expected[100:], atol=3e-3)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [8200.0, 11_000.0, 15_500.0])
def test_what_would_fold_is_gone(rate: int, hertz: float) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(rate) / rate).astype(np.float32)
    assert np.abs(resample_whole(tone, rate)[100:]).max() < 10 ** (-55 / 20)


def test_sound_that_is_no_whole_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="no whole number of 5"):
        Decimator(40_000).push(np.zeros(1281, np.float32))


def test_the_output_takes_the_level_of_the_input() -> None:
    level = LevelMatch()
    source = RANDOM.standard_normal(16_384).astype(np.float32) * 0.1
    out = level.push(source, RANDOM.standard_normal(16_384).astype(np.float32) * 0.02)
    assert out[1024:].std() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("sizes", [(512,), (3072,), LADDER])
def test_a_level_that_is_matched_in_chunks_is_that_of_the_whole_file(sizes: tuple[int, ...]) -> None:
    """Bit for bit: the powers are those of 512 samples, however many come at once."""
    swell = 10 ** (np.sin(np.arange(40 * 3072) / 7000) - 1.5).astype(np.float32)
    source, output = (RANDOM.standard_normal(len(swell)).astype(np.float32) * each for each in (swell, swell[::-1]))
    level, parts, at = LevelMatch(), [], 0
    for size in itertools.cycle(sizes):
        if at == len(source):
            break
        stop = min(at + size, len(source))
        parts.append(level.push(source[at:stop], output[at:stop]))
        at = stop
    np.testing.assert_array_equal(np.concatenate(parts), LevelMatch().push(source, output))


def test_silence_does_not_raise_the_gain() -> None:
    level = LevelMatch()
    quiet = np.full(5120, 1e-4, np.float32)
    np.testing.assert_array_equal(level.push(quiet, quiet * 0.1), quiet * np.float32(0.1))


def test_peaks_are_bent_and_never_wrap() -> None:
    pcm = to_pcm(np.array([0.0, 0.5, -0.5, 1.0, 5.0, -50.0], np.float32))
    assert pcm.dtype == np.int16
    assert pcm[:3].tolist() == [0, 16384, -16384]
    assert 22_937 < pcm[3] < pcm[4] <= 32767
    assert pcm[5] >= -32767
