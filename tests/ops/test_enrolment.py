"""Uploads become identities, or are refused with a reason; nothing that is uploaded harms the server."""

import asyncio
import io
import os
import signal
import wave

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ops.enrolment import (
    MOST_WAITING,
    PORTRAIT_SIDE,
    ProcessEnroller,
    decode_image,
    decode_wav,
    enrol_face,
    enrol_voice,
    resample,
)
from ops.shipped_media import media_file
from schemas.errors import EnrolmentRefused, Throttled

PORTRAIT = media_file("portrait.png").read_bytes()
SPEECH = media_file("speaker_b.wav").read_bytes()


def wav(samples: NDArray[np.int16], rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return sink.getvalue()


def picture(frame: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", frame)[1].tobytes())


async def test_the_shipped_portrait_and_voice_enrol_in_a_child_process() -> None:
    enroller = ProcessEnroller()
    try:
        face, voice = await enroller.face(PORTRAIT), await enroller.voice(SPEECH)
    finally:
        enroller.close()
    assert face.source.startswith(b"\x89PNG")
    assert set(face.templates) == set(voice.templates) == {"embedded"}


async def test_an_upload_that_kills_the_child_is_refused_and_the_next_one_works() -> None:
    enroller = ProcessEnroller()
    try:
        await enroller.voice(SPEECH)
        pool = enroller._pool
        assert pool is not None
        child = next(iter(pool._processes))
        enrolling = asyncio.create_task(enroller.voice(SPEECH))
        await asyncio.sleep(0)
        os.kill(child, signal.SIGKILL)
        with pytest.raises(EnrolmentRefused, match="crashed"):
            await enrolling
        assert (await enroller.voice(SPEECH)).templates
    finally:
        enroller.close()


async def test_uploads_take_turns_and_too_many_are_turned_away() -> None:
    enroller = ProcessEnroller()
    try:
        results = await asyncio.gather(*(enroller.voice(SPEECH) for _ in range(6)), return_exceptions=True)
    finally:
        enroller.close()
    refused = [result for result in results if isinstance(result, Throttled)]
    assert len(refused) == 6 - MOST_WAITING
    assert sum(not isinstance(result, BaseException) for result in results) == MOST_WAITING


async def test_an_upload_that_takes_too_long_costs_nobody_else_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    enroller = ProcessEnroller()
    try:
        await enroller.voice(SPEECH)
        monkeypatch.setattr("ops.enrolment.ENROL_LIMIT_S", 0.001)
        slow = asyncio.create_task(enroller.voice(SPEECH))
        await asyncio.sleep(0)
        with pytest.raises(EnrolmentRefused, match="took too long"):
            await slow
        monkeypatch.setattr("ops.enrolment.ENROL_LIMIT_S", 90.0)
        assert (await enroller.voice(SPEECH)).templates
    finally:
        enroller.close()


def test_a_large_portrait_is_kept_small() -> None:
    frame = cv2.resize(decode_image(PORTRAIT), (2400, 2400))
    kept = decode_image(enrol_face(picture(np.asarray(frame, np.uint8))).source)
    assert max(kept.shape[:2]) == PORTRAIT_SIDE


def test_a_portrait_without_a_face_and_with_several_are_refused() -> None:
    with pytest.raises(EnrolmentRefused, match="face"):
        enrol_face(picture(np.full((400, 400, 3), 128, np.uint8)))
    frame = decode_image(PORTRAIT)
    with pytest.raises(EnrolmentRefused, match=r"(?i)several|more than one|2 faces"):
        enrol_face(picture(np.hstack([frame, frame])))


@pytest.mark.parametrize(
    ("upload", "named"),
    [
        (b"", "neither"),
        (b"GIF89a" + bytes(100), "neither"),
        (b"\x89PNG\r\n\x1a\n" + bytes(8) + (60_000).to_bytes(4, "big") * 2 + bytes(100), "60000x60000"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "does not decode"),
        (b"\xff\xd8\xff" + bytes(50), "damaged JPEG"),
    ],
)
def test_a_picture_that_is_none_is_named(upload: bytes, named: str) -> None:
    with pytest.raises(EnrolmentRefused, match=named):
        decode_image(upload)


def test_a_silent_and_a_short_voice_are_refused() -> None:
    with pytest.raises(EnrolmentRefused):
        enrol_voice(wav(np.zeros(16_000 * 12, np.int16)))
    with pytest.raises(EnrolmentRefused, match="10"):
        enrol_voice(wav(decode_wav(SPEECH)[: 16_000 * 4]))


@pytest.mark.parametrize(
    ("upload", "named"),
    [
        (b"", "not a PCM WAV"),
        (b"RIFF" + bytes(60), "not a PCM WAV"),
        (wav(np.zeros(100, np.int16), width=1), "8-bit"),
        (wav(np.zeros(100, np.int16), rate=4000), "4000 Hz"),
        (wav(np.zeros(8000 * 301, np.int16), rate=8000), "longer than 300 s"),
    ],
)
def test_a_sound_that_is_none_is_named(upload: bytes, named: str) -> None:
    with pytest.raises(EnrolmentRefused, match=named):
        decode_wav(upload)


def test_any_common_rate_and_stereo_are_taken() -> None:
    """A 440 Hz tone in 44.1 kHz stereo is a 440 Hz tone at 16 kHz mono, at the same level."""
    t = np.arange(44_100) / 44_100
    tone = np.rint(8000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    mono = decode_wav(wav(np.repeat(tone, 2), rate=44_100, channels=2))
    assert mono.size == 16_000
    spectrum = np.abs(np.fft.rfft(mono.astype(float)))
    assert int(spectrum.argmax()) == 440
    assert abs(float(np.abs(mono[2000:-2000]).max()) - 8000) < 50
    assert resample(np.zeros(0), 8000, 16_000).size == 0
    assert resample(np.ones(1), 192_000, 16_000).size > 0
