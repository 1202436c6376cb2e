"""The absolute grid on which every stream is cut, whatever the length of the chunks that arrive.

All work is done in blocks of 512 samples that start at multiples of 512 from the start of the stream; a chunk is a
whole number of blocks. A block always meets the same array shapes, the same analysis windows and the same state, so
the converted sound does not depend on how the stream was chunked: not nearly, but to the last bit.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from workers.voice.engine import SAMPLE_RATE

BLOCK = 512  # samples: the greatest common divisor of the ladder's chunk lengths
HOP = 128  # samples between analysis frames: 8 ms
FRAMES = BLOCK // HOP  # frames a block
LOOKAHEAD = 512  # samples: 32 ms; 64 ms changed neither pitch errors nor intelligibility nor similarity

FFT = 512  # synthesis and mapping resolution; a 32 ms impulse response holds any voice's envelope
BINS = FFT // 2 + 1

F0_FLOOR, F0_CEILING = 60.0, 500.0  # Hz

Samples: TypeAlias = NDArray[np.float64]  # (N,) or (frames, N), full scale is 1.0


def seconds(samples: int) -> float:
    """Return the duration of `samples` at the engine's rate."""
    return samples / SAMPLE_RATE
