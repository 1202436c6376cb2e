"""Coarse pitch, transposition, and moving a speaker's mean to a target's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.voice.neural.pitch import MeanMatch, coarse, transpose


@pytest.mark.parametrize(
    ("hertz", "step"),
    [(50, 1), (100, 20), (110, 23), (220, 60), (440, 122), (880, 217), (1100, 255), (0, 1), (3000, 255)],
)
def test_coarse_pitch_is_that_of_rvc(hertz: float, step: int) -> None:
    assert coarse(np.array([hertz], np.float32)).tolist() == [step]


def test_transposition_moves_what_is_voiced() -> None:
    np.testing.assert_allclose(transpose(np.array([0, 100, 220], np.float32), 12), [0, 200, 440])


@given(speaker=st.floats(70, 400), target=st.floats(70, 400))
def test_the_mean_is_matched_once_the_speaker_was_heard(speaker: float, target: float) -> None:
    match = MeanMatch(float(np.log(target)))
    assert match.semitones == 0
    for _ in range(20):
        match.hear(np.full(100, speaker, np.float32))
    wanted = np.clip(12 * np.log2(target / speaker), -24, 24)
    assert match.semitones == pytest.approx(wanted, abs=1e-3)  # the track is float32


def test_the_mean_does_not_depend_on_the_cut() -> None:
    track = np.random.default_rng(0).uniform(80, 200, 400).astype(np.float32)
    track[::3] = 0
    one, many = MeanMatch(5.0), MeanMatch(5.0)
    one.hear(track)
    for part in np.split(track, 8):
        many.hear(part)
    assert one.semitones == pytest.approx(many.semitones, abs=1e-9)


def test_silence_teaches_nothing() -> None:
    match = MeanMatch(5.0)
    match.hear(np.zeros(100, np.float32))
    assert match.semitones == 0
