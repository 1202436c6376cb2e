"""Synthesis: the pitch asked for, the level asked for, and no seams."""

import numpy as np
import pytest

from workers.voice.analysis import analyse
from workers.voice.engine import SAMPLE_RATE
from workers.voice.grid import BINS, BLOCK, FRAMES, Samples
from workers.voice.measure import click_ratio
from workers.voice.synthesis import PulseNoiseSynthesiser


def render(f0: float, blocks: int, log_power: float = -9.0) -> Samples:
    synthesiser = PulseNoiseSynthesiser()
    envelope = np.full((FRAMES, BINS), log_power) - np.linspace(0, 4, BINS)
    return np.concatenate(
        [synthesiser.render(np.full(FRAMES, f0), envelope, np.random.default_rng(block)) for block in range(blocks)]
    )


@pytest.mark.parametrize("pitch", [70.0, 123.4, 311.0])
def test_it_sounds_at_the_pitch_asked_for(pitch: float) -> None:
    sound = render(pitch, 40)
    pcm = (sound * 32767).astype(np.int16)
    found = np.concatenate([frames.f0 for _, frames in analyse(pcm)])[20:-20]
    assert np.abs(1200 * np.log2(found / pitch)).max() < 15


def test_voiced_and_unvoiced_sound_are_equally_loud() -> None:
    """The envelope is power per frequency, whether pulses or noise carry it."""
    voiced, unvoiced = render(110.0, 60)[BLOCK:], render(0.0, 60)[BLOCK:]
    assert 0.8 < voiced.std() / unvoiced.std() < 1.25


def test_blocks_join_without_a_seam() -> None:
    for pitch in (0.0, 90.0, 220.0):
        pcm = (render(pitch, 60) * 32767).astype(np.int16)
        assert click_ratio(pcm, range(BLOCK, len(pcm), BLOCK)).max() < 20


def test_a_resonance_longer_than_a_frame_leaves_no_step() -> None:
    """A sharp low resonance outlasts its response buffer; it is faded, not cut, and must not wrap around."""
    synthesiser = PulseNoiseSynthesiser()
    envelope = np.full((FRAMES, BINS), -16.0)
    envelope[:, 2:4] = -4.0
    sound = np.concatenate(
        [synthesiser.render(np.zeros(FRAMES), envelope, np.random.default_rng(block)) for block in range(60)]
    )
    bend = np.abs(np.diff(sound, 2))
    seams = bend[BLOCK - 1 :: BLOCK][:-1]
    assert np.median(seams) < 3 * np.median(bend)


def test_there_is_no_direct_current() -> None:
    sound = render(100.0, SAMPLE_RATE // BLOCK)
    assert abs(sound.mean()) < 0.02 * sound.std()
