"""What came out, judged from outside: whose face, whose voice, and whether anything raw came through.

Nothing here trusts what the system says of itself: faces are found anew on the frames that were sent, sound is compared
with the sound that was sent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ops.demo.footage import decode
from ops.demo.inputs import DemoInputs
from ops.demo.publish import Arrival, Recording, Script
from workers.video import geometry
from workers.video.detector import SecondOpinionDetector
from workers.video.engine import Frame
from workers.video.measure import LEAK_SSIM, leak_ssim, texture_identity, unwrap
from workers.video.mesh import MARGIN, FaceMesh
from workers.video.pixels import Float
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.measure import SpeakerEncoder, leaked_windows, similarity

_MIN_SCORE = 0.6
_REFITS = 3  # a mouth wide open needs a few steps from the detector's box
_IDENTITY_EVERY = 3  # frames; whose face it is changes slowly, a leak may last one frame


@dataclass(frozen=True, slots=True)
class PictureFigures:
    """What the frames show."""

    leaked: int
    """Frames in which a performer's face is still to be seen."""
    judged: int
    """Frames whose input shows a face: only those can leak."""
    to_source: float | None
    """Median likeness of the shown face to the portrait, -1..1."""
    to_original: float | None
    """Median likeness of the shown face to the performer's own, -1..1."""


@dataclass(frozen=True, slots=True)
class SoundFigures:
    """What is heard."""

    leaked: int
    """Windows of 200 ms of the speaker's own voice that the output contains."""
    before: float | None
    """Likeness of the speaker to the target's held-out speech: cosine of GE2E embeddings."""
    after: float | None
    """The same of the converted voice."""


class Onlooker:
    """Finds the faces in a picture, by itself and without a past."""

    def __init__(self) -> None:
        """Load the detectors and the mesh."""
        self._detector, self._mesh = SecondOpinionDetector(), FaceMesh()

    def faces(self, frame: Frame) -> list[Float]:
        """Return the landmarks (478, 3) px of every face, largest first."""
        found = []
        for face in self._detector.detect(frame):
            if face.score >= _MIN_SCORE:
                landmarks, _ = self._mesh.landmarks(frame, geometry.square_of_detection(face, MARGIN))
                for _ in range(_REFITS):
                    landmarks, _ = self._mesh.landmarks(frame, geometry.square_of_landmarks(landmarks, MARGIN))
                found.append(landmarks)
        return found


def pictures(
    inputs: DemoInputs, script: Script, recording: Recording, progress: Callable[[float], None]
) -> PictureFigures:
    """Judge every frame that came back against the one that was sent for it."""
    onlooker = Onlooker()
    worn = onlooker.faces(inputs.portrait_bgr)
    portrait = unwrap(inputs.portrait_bgr, worn[0]) if worn else None
    sent = {entry.due.pts_us: entry.due.number for entry in recording.sent if entry.due.kind == "video"}
    seen: dict[int, list[Float]] = {}
    leaked = judged = 0
    to_source: list[float] = []
    to_original: list[float] = []
    frames = [arrival for arrival in recording.of("video") if arrival.media.pts_us in sent]
    for count, arrival in enumerate(frames):
        index = script.clip.index(sent[arrival.media.pts_us])
        before, after = decode(script.clip.jpegs[index]), decode(arrival.media.data)
        if before.shape != after.shape:
            after = np.asarray(cv2.resize(after, before.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
        if index not in seen:
            seen[index] = onlooker.faces(before)
        faces = seen[index]
        judged += bool(faces)
        leaked += any(leak_ssim(before, after, face) > LEAK_SSIM for face in faces)
        if faces and portrait is not None and count % _IDENTITY_EVERY == 0:
            to_source.append(texture_identity(after, faces[0], portrait))
            to_original.append(texture_identity(after, faces[0], unwrap(before, faces[0])))
        progress((count + 1) / len(frames))
    return PictureFigures(leaked, judged, _median(to_source), _median(to_original))


def sound(inputs: DemoInputs, script: Script, recording: Recording) -> SoundFigures:
    """Judge the converted voice against what was spoken and against the target's held-out speech."""
    converted = converted_sound(recording, len(script.speech))
    spoken = script.speech[: len(converted)]
    encoder = SpeakerEncoder()
    try:
        target = encoder(inputs.held_out)
        before, after = (round(similarity(encoder(voice), target), 3) for voice in (spoken, converted))
    except ValueError:  # too little speech to tell a voice by
        return SoundFigures(len(leaked_windows(spoken, converted)), None, None)
    return SoundFigures(len(leaked_windows(spoken, converted)), before, after)


def converted_sound(recording: Recording, length: int) -> Pcm:
    """Return what came back as (length,) int16, each sample at its media time, silence where nothing came."""
    track = np.zeros(length, np.int16)
    for arrival in recording.of("audio"):
        place(track, arrival)
    return track


def place(track: Pcm, arrival: Arrival) -> None:
    """Put a piece of sound where it belongs; what lies outside `track` is left out."""
    pcm = np.frombuffer(arrival.media.data, "<i2")
    start = round(arrival.media.pts_us * SAMPLE_RATE / 1_000_000)
    first, last = max(0, -start), min(len(pcm), len(track) - start)
    if first < last:
        track[start + first : start + last] = pcm[first:last]


def _median(values: list[float]) -> float | None:
    return round(float(np.median(values)), 3) if values else None
