"""Voice templates: what enrolment learned of a target, as bytes that any build can check before using them."""

import struct
import zlib

import numpy as np

from schemas.errors import CodecError, EnrolmentRefused
from workers.voice.analysis import analyse
from workers.voice.engine import SAMPLE_RATE, Pcm
from workers.voice.envelope import CEPSTRA
from workers.voice.grid import BINS, HOP, Samples
from workers.voice.speaker import Moments, Speaker

MINIMUM_SECONDS = 10.0
_MINIMUM_VOICED_SECONDS = 3.0  # a reader is voiced about half of the time
_MINIMUM_RMS = 10 ** (-45 / 20)
_CLIPPED_SHARE = 0.005  # of samples at full scale

# Layout: magic, version, CRC-32 of what follows it; then per statistic its weight (frames), mean and variance, float32.
_HEADER = struct.Struct("<4sHxxI")
_MAGIC, _VERSION = b"MVWT", 1
_FIELDS = (("pitch", 1), ("voiced", BINS), ("unvoiced", BINS), ("cepstra", CEPSTRA))
_LENGTH = _HEADER.size + 4 * sum(1 + 2 * dims for _, dims in _FIELDS)


def encode(speaker: Speaker) -> bytes:
    """Return the template of a speaker."""
    parts: list[Samples] = []
    for name, _ in _FIELDS:
        moments: Moments = getattr(speaker, name)
        parts += [np.array([moments.weight]), moments.mean, moments.variance]
    body = np.concatenate(parts).astype("<f4").tobytes()
    return _HEADER.pack(_MAGIC, _VERSION, zlib.crc32(body)) + body


def decode(template: bytes) -> Speaker:
    """Return the speaker of a template. Raises `CodecError` for bytes that are not one."""
    if len(template) < _HEADER.size or template[: len(_MAGIC)] != _MAGIC:
        raise CodecError("not a voice template of the embedded engine")
    _, version, checksum = _HEADER.unpack_from(template)
    if version != _VERSION:
        raise CodecError(f"voice template version {version}; this build reads {_VERSION}: enrol the voice again")
    body = template[_HEADER.size :]
    if len(template) != _LENGTH or zlib.crc32(body) != checksum:
        raise CodecError("voice template is damaged: its length or checksum is wrong")
    values = np.frombuffer(body, "<f4").astype(np.float64)
    if not np.isfinite(values).all():
        raise CodecError("voice template holds numbers that are not finite")
    moments, at = {}, 0
    for name, dims in _FIELDS:
        mean, variance = values[at + 1 : at + 1 + dims], values[at + 1 + dims : at + 1 + 2 * dims]
        if values[at] < 0 or (variance < 0).any():
            raise CodecError(f"voice template has a negative weight or variance in {name}")
        moments[name] = Moments(mean, variance, float(values[at]))
        at += 1 + 2 * dims
    return Speaker(moments["pitch"], moments["voiced"], moments["unvoiced"], moments["cepstra"])


def learn(reference: Pcm) -> Speaker:
    """Return the statistics of at least 10 s of one speaker.

    Raises `EnrolmentRefused`, saying what to change, when the recording cannot stand for a voice.
    """
    _check(reference)
    speaker = Speaker.unheard()
    for _, frames in analyse(reference):
        speaker.hear(frames)
    voiced = speaker.voiced.weight * HOP / SAMPLE_RATE
    if voiced < _MINIMUM_VOICED_SECONDS:
        raise EnrolmentRefused(
            f"only {voiced:.1f} s of voiced speech found, {_MINIMUM_VOICED_SECONDS:.0f} s are needed: "
            "record one person speaking, without music or noise"
        )
    return speaker


def _check(reference: Pcm) -> None:
    if reference.dtype != np.int16 or reference.ndim != 1:
        raise EnrolmentRefused(f"reference is {reference.dtype} {reference.shape}; 16 kHz mono int16 is needed")
    length = len(reference) / SAMPLE_RATE
    if length < MINIMUM_SECONDS:
        raise EnrolmentRefused(f"reference is {length:.1f} s long; at least {MINIMUM_SECONDS:.0f} s are needed")
    magnitude = np.abs(reference.astype(np.float64)) / 32768
    if np.sqrt(np.mean(magnitude**2)) < _MINIMUM_RMS:
        raise EnrolmentRefused("reference is silent or nearly so; speak closer to the microphone or raise its gain")
    if np.mean(magnitude > 0.999) > _CLIPPED_SHARE:
        raise EnrolmentRefused("reference is clipped; lower the microphone's gain and record again")
