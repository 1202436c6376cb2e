"""Reading pictures and sound from files of any kind, as a camera and a microphone would deliver them."""

import io
import itertools
import math
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import simplejpeg
from av.container import InputContainer
from av.error import FFmpegError

from schemas.errors import InputRejected
from workers.video.engine import Frame
from workers.voice.engine import SAMPLE_RATE, Pcm

SIDE = 512
FPS = 20
FRAME_US = 1_000_000 // FPS
JPEG_QUALITY = 85
LONGEST_SOUND_S = 300.0
"""As much as an enrolment takes."""
_EARLY = 1e-3  # slots; times of frames are rounded


class UnusableInput(InputRejected):
    """A file that the demo cannot use."""

    def __init__(self, option: str, detail: str) -> None:
        """Say what is wrong with the file that `option` named."""
        super().__init__(f"{option}: {detail}")


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames at 20 a second, played forward and back for as long as it takes."""

    jpegs: list[bytes]
    """Different frames, 512x512."""

    def index(self, number: int) -> int:
        """Return which of `jpegs` is frame `number`."""
        return there_and_back(number, len(self.jpegs))


def there_and_back(number: int, count: int) -> int:
    """Return the index of frame `number` of `count` frames played forward and back, without a jump, for ever."""
    if count == 1:
        return 0
    at = number % (2 * count - 2)
    return at if at < count else 2 * count - 2 - at


def read_video(path: Path, seconds: float) -> Clip:
    """Return at most `seconds` of a video as 512x512 JPEGs, 20 a second, cut square around the middle.

    Raises `UnusableInput`.
    """
    jpegs: list[bytes] = []
    wanted = round(seconds * FPS)
    try:
        with av.open(str(path)) as container:
            for frame in _on_the_grid(container, path):
                jpegs.append(frame)
                if len(jpegs) == wanted:
                    break
    except (FFmpegError, OSError) as error:
        raise UnusableInput("--video", f"{path} does not decode: {error.strerror or error}") from None
    if not jpegs:
        raise UnusableInput("--video", f"{path} has no pictures")
    return Clip(jpegs)


def _on_the_grid(container: InputContainer, path: Path) -> Iterator[bytes]:
    """Yield for every 1/20 s the JPEG of the frame that is shown then."""
    if not container.streams.video:
        raise UnusableInput("--video", f"{path} has no pictures")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    aspect = float(stream.sample_aspect_ratio or 1)
    shown: av.VideoFrame | None = None
    first_s = until_s = 0.0
    number = 0
    for frame in container.decode(stream):
        if frame.pts is None:
            continue
        if shown is None:
            first_s = frame.time
        else:  # it stays on the screen until this one
            yield from _repeated(shown, aspect, (frame.time - first_s) * FPS - number)
            number = max(number, math.ceil((frame.time - first_s) * FPS - _EARLY))
        shown, until_s = frame, frame.time + float((frame.duration or 0) * (frame.time_base or 0))
    if shown is not None:
        yield from _repeated(shown, aspect, max((until_s - first_s) * FPS - number, number == 0))


def _repeated(frame: av.VideoFrame, aspect: float, slots: float) -> Iterator[bytes]:
    count = math.ceil(slots - _EARLY)
    if count > 0:
        yield from itertools.repeat(encode(square(frame, aspect)), count)


def square(frame: av.VideoFrame, aspect: float) -> Frame:
    """Return the middle of a frame as (512, 512, 3) BGR, upright; `aspect` is width by height of its pixels."""
    quarters = round(frame.rotation / 90)
    picture: Frame = np.rot90(np.asarray(frame.to_ndarray(format="bgr24"), np.uint8), quarters)
    aspect = 1 / aspect if quarters % 2 else aspect
    side = min(picture.shape[0], picture.shape[1] * aspect)
    wide, high = round(side / aspect), round(side)
    left, top = (picture.shape[1] - wide) // 2, (picture.shape[0] - high) // 2
    cut = np.ascontiguousarray(picture[top : top + high, left : left + wide])
    how = cv2.INTER_AREA if high > SIDE else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(cut, (SIDE, SIDE), interpolation=how), np.uint8)


def encode(frame: Frame) -> bytes:
    """Return a frame as the JPEG that the demo's camera sends."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(frame), JPEG_QUALITY, "BGR", "420"))


def decode(jpeg: bytes) -> Frame:
    """Return a JPEG as (H, W, 3) BGR."""
    return np.asarray(simplejpeg.decode_jpeg(jpeg, "BGR"), np.uint8)


def read_sound(path: Path, option: str, *, at_most_s: float = LONGEST_SOUND_S) -> Pcm:
    """Return the sound of any file that PyAV reads as (N,) int16 mono at 16 kHz; raises `UnusableInput`."""
    wanted = round(at_most_s * SAMPLE_RATE)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
    pieces: list[Pcm] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise UnusableInput(option, f"{path} has no sound")
            for frame in itertools.chain(container.decode(audio=0), (None,)):  # None flushes the resampler
                pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
                if sum(map(len, pieces)) >= wanted:
                    break
    except (FFmpegError, OSError) as error:
        raise UnusableInput(option, f"{path} does not decode: {error.strerror or error}") from None
    sound = np.concatenate([*pieces, np.zeros(0, np.int16)])[:wanted].astype(np.int16)
    if len(sound) < SAMPLE_RATE:
        raise UnusableInput(option, f"{path} holds less than a second of sound")
    return sound


def wav(sound: Pcm) -> bytes:
    """Return (N,) int16 at 16 kHz as a WAV file."""
    sink = io.BytesIO()
    with wave.open(sink, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(SAMPLE_RATE)
        writer.writeframes(sound.astype("<i2").tobytes())
    return sink.getvalue()
