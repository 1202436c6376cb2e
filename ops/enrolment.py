"""Enrols uploads in a process of its own: it takes seconds, and an upload that crashes a decoder takes only that.

Implements `schemas.identity_store.Enroller`, for every engine that a worker of this installation may run.
"""

import asyncio
import ctypes
import io
import multiprocessing
import os
import signal
import sys
import wave
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from ops.engines import TemplateMaker, face_enrollers, voice_enrollers
from ops.settings import read
from schemas.errors import EnrolmentRefused, Throttled
from schemas.identity_store import Enrolment
from workers.video.engine import Frame
from workers.video.task import fit
from workers.voice.engine import SAMPLE_RATE, Pcm

MAX_PORTRAIT_PIXELS = 40_000_000
MAX_VOICE_S = 300
ENROL_LIMIT_S = 90.0
MOST_WAITING = 4
PORTRAIT_SIDE = 1024  # pixels kept of a larger portrait: more than any engine uses, and it lives in memory
_RATES = range(8_000, 192_001)


class ProcessEnroller:
    """Runs one enrolment at a time in a child process, which is replaced when an upload kills it."""

    def __init__(self) -> None:
        """Start no process before the first upload."""
        self._pool: ProcessPoolExecutor | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def face(self, image: bytes) -> Enrolment:
        """See `Enroller.face`."""
        return await self._run(enrol_face, image)

    async def voice(self, sound: bytes) -> Enrolment:
        """See `Enroller.voice`."""
        return await self._run(enrol_voice, sound)

    async def _run(self, enrol: Callable[[bytes], Enrolment], upload: bytes) -> Enrolment:
        if self._waiting >= MOST_WAITING:
            raise Throttled("too many enrolments at once; try again in a moment", retry_after_ms=5_000)
        self._waiting += 1
        try:
            async with self._turn:  # the limit is each upload's own: nobody is refused for somebody else's
                return await self._enrol(enrol, upload)
        finally:
            self._waiting -= 1

    async def _enrol(self, enrol: Callable[[bytes], Enrolment], upload: bytes) -> Enrolment:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_child
            )
        pool = self._pool
        try:
            running = asyncio.get_running_loop().run_in_executor(pool, enrol, upload)
            return await asyncio.wait_for(running, ENROL_LIMIT_S)
        except (BrokenProcessPool, TimeoutError) as error:
            self._pool = None
            await asyncio.to_thread(_end, pool)
            what = "took too long to enrol" if isinstance(error, TimeoutError) else "crashed its decoder"
            raise EnrolmentRefused(f"the upload {what}; send an ordinary JPEG, PNG or WAV file") from None

    def close(self) -> None:
        """End the child process."""
        if self._pool is not None:
            _end(self._pool)
            self._pool = None


def _end(pool: ProcessPoolExecutor) -> None:
    # Killed, then waited for: a decoder may hang, and an executor that is dropped while its thread still talks to the
    # child dies with a traceback.
    for process in list((pool._processes or {}).values()):  # noqa: SLF001 - the executor offers no other way
        process.kill()
    pool.shutdown(cancel_futures=True)


def _prepare_child() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: gone when ingress is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@cache
def _face_enrollers() -> tuple[TemplateMaker[Frame], ...]:
    return face_enrollers(read(os.environ))


@cache
def _voice_enrollers() -> tuple[TemplateMaker[Pcm], ...]:
    return voice_enrollers(read(os.environ))


def enrol_face(image: bytes) -> Enrolment:
    """Return the enrolment of a JPEG or PNG portrait; raises `EnrolmentRefused`."""
    portrait = fit(decode_image(image), PORTRAIT_SIDE)
    templates = {maker.name: maker.enrol(portrait) for maker in _face_enrollers()}
    ok, png = cv2.imencode(".png", portrait)
    if not ok:
        raise EnrolmentRefused("the portrait could not be stored as PNG")
    return Enrolment(png.tobytes(), templates)


def enrol_voice(sound: bytes) -> Enrolment:
    """Return the enrolment of a WAV file; raises `EnrolmentRefused`."""
    pcm = decode_wav(sound)
    return Enrolment(pcm.astype("<i2").tobytes(), {maker.name: maker.enrol(pcm) for maker in _voice_enrollers()})


def decode_image(image: bytes) -> NDArray[np.uint8]:
    """Return a JPEG or PNG as (H, W, 3) uint8 BGR; raises `EnrolmentRefused`."""
    width, height = _dimensions(image)
    if width * height > MAX_PORTRAIT_PIXELS:  # from the header: a small file can claim to be an enormous picture
        raise EnrolmentRefused(f"the portrait has {width}x{height} pixels; at most {MAX_PORTRAIT_PIXELS} in all")
    frame = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
    if frame is None:
        raise EnrolmentRefused("the portrait does not decode; send an undamaged JPEG or PNG")
    return frame.astype(np.uint8, copy=False)


def _dimensions(image: bytes) -> tuple[int, int]:
    if image.startswith(b"\x89PNG\r\n\x1a\n") and len(image) >= 24:
        return int.from_bytes(image[16:20], "big"), int.from_bytes(image[20:24], "big")
    if image.startswith(b"\xff\xd8\xff"):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(image)
        except ValueError as error:
            raise EnrolmentRefused(f"the portrait is a damaged JPEG: {error}") from None
        return width, height
    raise EnrolmentRefused("the portrait is neither a JPEG nor a PNG file")


def decode_wav(sound: bytes) -> NDArray[np.int16]:
    """Return a PCM16 WAV file of any common rate as (N,) int16 mono at 16 kHz; raises `EnrolmentRefused`."""
    try:
        with wave.open(io.BytesIO(sound)) as reader:
            channels, width, rate = reader.getnchannels(), reader.getsampwidth(), reader.getframerate()
            if width != 2:
                raise EnrolmentRefused(f"the voice reference has {width * 8}-bit samples; send 16-bit PCM WAV")
            if rate not in _RATES or not 1 <= channels <= 8:
                raise EnrolmentRefused(f"the voice reference has {channels} channels at {rate} Hz; send mono or stereo")
            if reader.getnframes() > MAX_VOICE_S * rate:
                raise EnrolmentRefused(f"the voice reference is longer than {MAX_VOICE_S} s")
            raw = reader.readframes(reader.getnframes())
    except (wave.Error, EOFError) as error:
        raise EnrolmentRefused(f"the voice reference is not a PCM WAV file: {error}") from None
    whole = len(raw) // (2 * channels) * 2 * channels
    mono = np.frombuffer(raw[:whole], "<i2").reshape(-1, channels).mean(axis=1)
    return np.clip(np.rint(resample(mono, rate, SAMPLE_RATE)), -32768, 32767).astype(np.int16)


def resample(signal_in: NDArray[np.float64], rate: int, wanted: int) -> NDArray[np.float64]:
    """Return (N,) samples at another rate, band-limited by truncating or padding the spectrum of the whole clip."""
    if rate == wanted or signal_in.size == 0:
        return signal_in
    length = max(2, round(signal_in.size * wanted / rate))
    spectrum = np.fft.rfft(signal_in)
    kept = np.zeros(length // 2 + 1, spectrum.dtype)
    shared = min(kept.size, spectrum.size)
    kept[:shared] = spectrum[:shared]
    return np.fft.irfft(kept, length) * (length / signal_in.size)
