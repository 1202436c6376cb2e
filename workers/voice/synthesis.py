"""Pulse-and-noise synthesis whose every state is carried, so that no splice exists.

A voiced frame is a train of minimum-phase impulse responses, an unvoiced one shaped noise, a real voice both. The
response of a pulse or of a stretch of noise runs on past its block; what runs over is added to the next block. Minimum
phase is found by folding the cepstrum (Oppenheim and Schafer, "Discrete-Time Signal Processing", 12.4): the folding is
linear, hence it is done once a frame, and responses at pulses between two frames are interpolated from it.
"""

import numpy as np

from workers.voice.engine import SAMPLE_RATE
from workers.voice.envelope import FREQUENCIES
from workers.voice.grid import BINS, BLOCK, FFT, FRAMES, HOP, Samples

_LEAD = 16  # samples a response is delayed by: a pulse between two samples rings before its peak
_NOISE_FFT = 2 * FFT  # noise of 256 samples and a response of 512 must not wrap around
_TAIL = _NOISE_FFT
_FADE = 128  # samples over which a response that has not died away is brought to zero
_ONSET_PHASE = 0.5  # of a period, at the start of every voiced stretch: no memory of earlier stretches

# Noise in a voiced frame, as a share of amplitude: breath is heard above 4 kHz, where no harmonic is resolved. Measured
# per frame (D4C) it costs a third of the chain and changes neither intelligibility nor speaker similarity.
_BREATH_HZ = np.array([0.0, 1000.0, 2500.0, 4500.0, 8000.0])
_BREATH = np.array([0.02, 0.04, 0.16, 0.45, 0.75])


def _fold(log_magnitude: Samples) -> np.ndarray:
    """Return the log of the minimum-phase spectrum (n, BINS) complex, of log magnitudes (n, BINS)."""
    cepstrum = np.fft.irfft(log_magnitude, axis=-1)
    cepstrum[..., 1 : FFT // 2] *= 2
    cepstrum[..., FFT // 2 + 1 :] = 0
    return np.fft.rfft(cepstrum, axis=-1)


# A minimum-phase pulse has all its energy at one instant and sounds of buzzers. A group delay that swings by 2.4 ms
# over frequency, and vanishes at its foot where pitch is heard, spreads it.
_SWING_S, _SWING_HZ, _FOOT_HZ = 1.2e-3, 2000.0, 1500.0


def _dispersion() -> Samples:
    """Return the phase (BINS,) of the swinging group delay, in radians."""
    swing = 1 - np.cos(2 * np.pi * FREQUENCIES / _SWING_HZ)
    delay = _SWING_S * swing * np.minimum(FREQUENCIES / _FOOT_HZ, 1)
    return np.asarray(-2 * np.pi * np.cumsum(delay) * SAMPLE_RATE / FFT)


_BREATHINESS = np.interp(FREQUENCIES, _BREATH_HZ, _BREATH)
_PULSE_SHARE = _fold(0.5 * np.log(1 - _BREATHINESS**2)) + 1j * _dispersion()
_NOISE_SHARE = _fold(np.log(_BREATHINESS))
_LEAD_SHIFT = -2j * np.pi / FFT * np.arange(BINS)
_FADE_OUT = np.concatenate((np.ones(FFT - _FADE), np.cos(np.linspace(0, np.pi / 2, _FADE)) ** 2))
_STEADY = (
    np.hanning(FFT) / np.hanning(FFT).sum()
)  # what a response's mean is taken out with: it starts and ends at zero
_NOISE_WINDOW = np.sin(np.pi * (np.arange(2 * HOP) + 0.5) / (2 * HOP))  # squares add up to one at a hop of HOP


class PulseNoiseSynthesiser:
    """Frames of pitch and envelope in, sound out, 512 samples at a time."""

    def __init__(self) -> None:
        """Start in silence."""
        self.reset()

    def reset(self) -> None:
        """Forget everything, as after silence."""
        self._f0 = 0.0
        self._response = np.full(BINS, -20.0, np.complex128)
        self._phase = _ONSET_PHASE
        self._tail = np.zeros(_TAIL)

    def render(self, f0: Samples, log_power: Samples, noise: np.random.Generator) -> Samples:
        """Return the (512,) samples up to the last frame.

        `f0` (4,) in Hz, 0 for unvoiced; `log_power` (4, BINS) natural log of the power envelope; `noise` the generator
        of this block.
        """
        responses = np.concatenate((self._response[None], _fold(0.5 * log_power)))
        pitch = np.concatenate(((self._f0,), f0))
        out = np.zeros(BLOCK + _TAIL)
        out[:_TAIL] = self._tail
        self._add_pulses(out, pitch, responses)
        self._add_noise(out, pitch[1:], responses[1:], noise)
        self._f0, self._response, self._tail = float(pitch[-1]), responses[-1], out[BLOCK:].copy()
        return out[:BLOCK]

    def _add_pulses(self, out: Samples, pitch: Samples, responses: np.ndarray) -> None:
        positions, periods = self._pulses(pitch)
        if not len(positions):
            return
        whole = positions.astype(np.intp)
        frame = np.minimum(whole // HOP, FRAMES - 1)
        part = (positions / HOP - frame)[:, None]
        log_response = responses[frame] * (1 - part) + responses[frame + 1] * part + _PULSE_SHARE
        log_response += _LEAD_SHIFT * (positions - whole + _LEAD)[:, None]
        spectrum = np.exp(log_response) * np.sqrt(periods)[:, None]
        sounds = np.fft.irfft(spectrum, axis=1) * _FADE_OUT
        sounds -= sounds.sum(axis=1, keepdims=True) * _STEADY
        for start, sound in zip(whole, sounds, strict=True):
            out[start : start + FFT] += sound

    def _pulses(self, pitch: Samples) -> tuple[Samples, Samples]:
        """Return where pulses fall (samples from the start of the block) and the period there, in samples."""
        positions: list[Samples] = []
        periods: list[Samples] = []
        for hop in range(FRAMES):
            start, end = pitch[hop], pitch[hop + 1]
            if start == 0 and end == 0:
                continue
            if start == 0:
                self._phase = _ONSET_PHASE
            # A hop with one voiced end sounds in the half that is nearer to it.
            first, last = (0 if start else HOP // 2), (HOP if end else HOP // 2)
            track = np.linspace(start or end, end or start, HOP, endpoint=False)[first:last] / SAMPLE_RATE
            phase = self._phase + np.concatenate(((0.0,), np.cumsum(track)))
            at = np.flatnonzero(np.floor(phase[1:]) > np.floor(phase[:-1]))
            positions.append(hop * HOP + first + at + (np.floor(phase[at + 1]) - phase[at]) / track[at])
            periods.append(1 / track[at])
            self._phase = float(phase[-1] % 1)
        return (np.concatenate(positions), np.concatenate(periods)) if positions else (np.zeros(0), np.zeros(0))

    def _add_noise(self, out: Samples, pitch: Samples, responses: np.ndarray, noise: np.random.Generator) -> None:
        white = noise.standard_normal((FRAMES, 2 * HOP)) * _NOISE_WINDOW
        shape = np.fft.irfft(np.exp(responses + np.where(pitch[:, None] > 0, _NOISE_SHARE, 0)), axis=1) * _FADE_OUT
        spectrum = np.fft.rfft(white, _NOISE_FFT, axis=1) * np.fft.rfft(shape, _NOISE_FFT, axis=1)
        for frame, sound in enumerate(np.fft.irfft(spectrum, axis=1)):
            out[frame * HOP : frame * HOP + 2 * HOP + FFT] += sound[: 2 * HOP + FFT]
