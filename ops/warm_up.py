"""Runs a fresh engine once on shipped media: the first call of every graph and buffer costs several frames' time.

A worker is warm before it claims a session, so that no viewer's first frames are late for it. And an engine that
covers the shipped face, or silences the shipped speech, would do so to everybody's.
"""

import io
import wave

import cv2
import numpy as np

from ops.shipped_media import media_file
from schemas.errors import ModelRefused
from workers.video.engine import FaceEngine, FaceOutcome, FaceSettings
from workers.voice.engine import SAMPLE_RATE, VoiceEngine, VoiceOutcome

_FRAMES, _CHUNK, _ENROL_S = 6, 3072, 12


def warm_face(engine: FaceEngine) -> FaceEngine:
    """Swap the shipped portrait onto itself a few times; returns the engine. Raises `ModelRefused` if it never does."""
    data = np.frombuffer(media_file("portrait.png").read_bytes(), np.uint8)
    portrait = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    session = engine.open(FaceSettings(), [engine.enrol(portrait)])
    frame = np.asarray(cv2.resize(portrait, (512, 512)), np.uint8)
    outcomes = [engine.process([(session, frame, number * 50_000)])[0].outcome for number in range(_FRAMES)]
    if FaceOutcome.SWAPPED not in outcomes:
        raise ModelRefused(
            f"the {engine.name} face engine swaps no face of the shipped portrait, which it has just enrolled: "
            f"{', '.join(outcomes)}. Try another MIRAGE_PROVIDER"
        )
    return engine


def warm_voice(engine: VoiceEngine) -> VoiceEngine:
    """Convert a second of shipped speech; returns the engine. Raises `ModelRefused` if any of it ends as silence."""
    with wave.open(io.BytesIO(media_file("speaker_b.wav").read_bytes())) as reader:
        speech = np.frombuffer(reader.readframes(_ENROL_S * SAMPLE_RATE), "<i2").astype(np.int16)
    stream = engine.open(engine.enrol(speech))
    outcomes = [stream.process(speech[start : start + _CHUNK]).outcome for start in range(0, SAMPLE_RATE, _CHUNK)]
    if VoiceOutcome.SILENCED in outcomes or VoiceOutcome.CONVERTED not in outcomes:
        raise ModelRefused(
            f"the {engine.name} voice engine cannot convert the shipped speech: {', '.join(outcomes)}. "
            "The log has the reason; try another MIRAGE_PROVIDER, or another voice"
        )
    return engine
