"""The contract of every voice engine: enrol a target once, open a stream, convert chunk after chunk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
Pcm = NDArray[np.int16]  # (N,) mono, 16 kHz


class VoiceOutcome(StrEnum):
    """What the engine did to a chunk."""

    CONVERTED = "converted"
    GATED = "gated"  # silence in, silence out: no conversion was needed
    SILENCED = "silenced"  # speech that could not be converted: fail closed


@dataclass(frozen=True, slots=True)
class VoiceResult:
    """One converted chunk, as long as its input, delayed by the stream's lookahead."""

    pcm: Pcm
    outcome: VoiceOutcome
    stages_us: Mapping[str, int] = field(default_factory=dict)
    """Microseconds in each of `encode`, `f0`, `convert`, `post`, and `index` where features are looked up."""


class VoiceStream(Protocol):
    """Per-session state: analysis context, synthesis phase, running statistics."""

    @property
    def lookahead(self) -> int:
        """Samples by which output lags input: output sample n is the sound of input sample n - lookahead."""
        ...

    @property
    def context(self) -> int:
        """Samples of past input that `prime` wants after a takeover."""
        ...

    def prime(self, pcm: Pcm) -> None:
        """Feed past input (most recent last) without producing output, as after a takeover."""
        ...

    def process(self, pcm: Pcm) -> VoiceResult:
        """Convert the next chunk. Any length that is a multiple of 512 samples; lengths may change between calls."""
        ...


class VoiceEngine(Protocol):
    """Turns reference speech into a template, and speech into the template's voice. One thread drives it."""

    @property
    def name(self) -> str:
        """`embedded` or `neural`: templates of one engine mean nothing to another."""
        ...

    def enrol(self, reference: Pcm) -> bytes:
        """Return the voice template of at least 10 s of speech.

        Raises `schemas.errors.EnrolmentRefused` when there is too little voiced speech.
        """
        ...

    def open(self, template: bytes | None) -> VoiceStream:
        """Start a stream into the template's voice; None silences everything (no voice chosen is not pass-through)."""
        ...
