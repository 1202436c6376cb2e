"""One-Euro smoothing of landmarks: still faces do not tremble, moving faces do not lag.

After Casiez, Roussel and Vogel, "1€ Filter", CHI 2012. Speeds are measured in face sizes a second, so that the
constants hold at every distance from the camera.
"""

import numpy as np

from workers.video.pixels import Float

STILL_CUTOFF_HZ = 1.5
CUTOFF_HZ_PER_SPEED = 25.0
SPEED_CUTOFF_HZ = 1.0


def _share(cutoff_hz: Float | float, seconds: float) -> Float:
    """Return the share of the new sample in a first-order low-pass of `cutoff_hz` at this time step."""
    return np.asarray(1 / (1 + 1 / (2 * np.pi * np.asarray(cutoff_hz, np.float32) * seconds)), np.float32)


class LandmarkSmoother:
    """The filter of one track."""

    def __init__(self) -> None:
        """Start without a past."""
        self._smooth: Float | None = None  # (N, D) px
        self._speed: Float | None = None  # (N, D) face sizes a second

    def step(self, landmarks: Float, seconds: float, face_size: float) -> Float:
        """Return smoothed `landmarks` (N, D) px, `seconds` after the last ones, of a face `face_size` px large."""
        if self._smooth is None or self._speed is None or self._smooth.shape != landmarks.shape:
            self._smooth, self._speed = landmarks, np.zeros_like(landmarks)
            return landmarks
        moved = landmarks - self._smooth
        speed_share = _share(SPEED_CUTOFF_HZ, seconds)
        self._speed = speed_share * moved / np.float32(seconds * face_size) + (1 - speed_share) * self._speed
        speed = np.sqrt(np.square(self._speed[:, :2]).sum(axis=1, keepdims=True))  # (N, 1)
        self._smooth = self._smooth + _share(STILL_CUTOFF_HZ + CUTOFF_HZ_PER_SPEED * speed, seconds) * moved
        return self._smooth
