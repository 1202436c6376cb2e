"""What the voice tests share: reading speech, and driving a stream."""

import itertools
import wave
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workers.voice.engine import Pcm, VoiceResult, VoiceStream

LADDER = (1536, 2048, 2560, 3072, 4096, 5120)  # samples: 96, 128, 160, 192, 256, 320 ms
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Held:
    """One speaker's recording, split."""

    reference: Pcm
    held_out: Pcm


def read_wav(path: Path) -> Pcm:
    with wave.open(str(path), "rb") as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def results(stream: VoiceStream, pcm: Pcm, sizes: Iterable[int] = (3072,)) -> list[VoiceResult]:
    """Push all whole blocks of `pcm` through, in chunks of `sizes` over and over; the last chunk may be shorter."""
    pcm = pcm[: len(pcm) // BLOCK * BLOCK]
    found: list[VoiceResult] = []
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(pcm):
            return found
        found.append(stream.process(pcm[at : at + size]))
        at += size
    return found


def convert(stream: VoiceStream, pcm: Pcm, sizes: Iterable[int] = (3072,)) -> Pcm:
    return np.concatenate([result.pcm for result in results(stream, pcm, sizes)])
