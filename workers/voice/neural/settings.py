"""What can be chosen of a neural voice."""

from dataclasses import dataclass
from typing import Literal, get_args

from schemas.errors import Misconfigured
from workers.voice.engine import SAMPLE_RATE
from workers.voice.neural.formant import LIMIT as FORMANT_LIMIT
from workers.voice.neural.resample import DELAY
from workers.voice.neural.windows import room

F0Name = Literal["rmvpe", "swiftf0", "embedded"]

SEARCH_MS = 10  # by which a window may be shifted: a period of 100 Hz
LONGEST_OVERLAP_MS = (room(DELAY) * 1000 // SAMPLE_RATE) - SEARCH_MS


@dataclass(frozen=True, slots=True)
class NeuralVoiceSettings:
    """Settings of an engine; the same for all of its streams. Raises `Misconfigured`, naming what is accepted."""

    overlap_ms: int = 30
    """Fade between windows. 0 is the specification's "overlap-add disabled": a hard join that clicks."""
    context_ms: int = 400
    """Past that is converted again with every block; below 310 ms the voice changes from block to block."""
    fixed_blocks: bool = False
    """Whether every 32 ms have a window of their own, not every chunk: the output is then independent of the chunks,
    to the bit, at the cost of a run of every network per 32 ms."""
    semitones: float = 0.0
    """Added to the pitch."""
    match_pitch: bool = True
    """Whether the speaker's mean pitch is moved to the target's."""
    formant_semitones: float = 0.0
    """By which the voice's formants are moved."""
    index_rate: float = 0.0
    """How far content is pulled towards the target's own, 0 to 1. 0 stores no features at enrolment."""
    fixed_noise: bool = False
    """Whether noise that the synthesiser draws inside its graph becomes a function of the frame, so that a replay is
    exact; costs a look-up per noise sample."""
    match_level: bool = True
    """Whether the output is as loud as the input."""

    def __post_init__(self) -> None:
        """Check every field."""
        _between("MIRAGE_VOICE_OVERLAP_MS", self.overlap_ms, 0, LONGEST_OVERLAP_MS)
        _between("context_ms", self.context_ms, 100, 2000)
        _between("semitones", self.semitones, -24, 24)
        _between("formant_semitones", self.formant_semitones, -FORMANT_LIMIT, FORMANT_LIMIT)
        _between("index_rate", self.index_rate, 0, 1)


def check_f0_name(name: str) -> None:
    """Raise `Misconfigured` unless `name` is a source of F0."""
    if name not in get_args(F0Name):
        raise Misconfigured(f"F0 source {name!r}; {', '.join(get_args(F0Name))} are accepted")


def _between(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise Misconfigured(f"{name} is {value}; {low} to {high} is accepted")
