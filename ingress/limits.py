"""The rate limits of one connection."""

from ingress.buckets import Bucket
from ingress.settings import RateLimits
from schemas.clock import Clock
from schemas.errors import Throttled
from schemas.media import pcm_duration_us
from schemas.wire import MediaMessage, MediaType


class ConnectionLimits:
    """Buckets by what they count. Each method raises `Throttled`."""

    def __init__(self, rates: RateLimits, clock: Clock) -> None:
        """Start full."""
        self._clock = clock
        now_us = clock.monotonic_us()

        def bucket(name: str, rate: float, burst: float) -> Bucket:
            return Bucket(name, rate, burst, now_us=now_us)

        self._bytes = bucket("data (bytes)", rates.bytes_per_s, rates.bytes_burst)
        self._messages = bucket(
            "messages", rates.video_per_s + rates.audio_per_s, rates.video_burst + rates.audio_burst
        )
        self._media = {
            MediaType.VIDEO: bucket("frames", rates.video_per_s, rates.video_burst),
            MediaType.AUDIO: bucket("sound messages", rates.audio_per_s, rates.audio_burst),
        }
        self._sound = bucket("sound (seconds)", rates.audio_speed, rates.audio_ahead_s)
        self._control = bucket("control messages", rates.control_per_s, rates.control_burst)
        self._connects = bucket("asking to connect", rates.connects_per_s, rates.connects_burst)
        self._violations = bucket("refused for its rate", rates.violations_per_s, rates.violations_burst)

    def binary(self, size: int) -> None:
        """Count a binary message of `size` bytes, before it is looked at."""
        now_us = self._clock.monotonic_us()
        self._messages.take(1, now_us=now_us)
        self._bytes.take(size, now_us=now_us)

    def media(self, message: MediaMessage) -> None:
        """Count a decoded message."""
        now_us = self._clock.monotonic_us()
        self._media[message.type].take(1, now_us=now_us)
        if message.type is MediaType.AUDIO:
            self._sound.take(pcm_duration_us(message.data) / 1e6, now_us=now_us)

    def control(self) -> None:
        """Count a control message."""
        self._control.take(1, now_us=self._clock.monotonic_us())

    def connect(self) -> None:
        """Count a token for a connection."""
        self._connects.take(1, now_us=self._clock.monotonic_us())

    def abused(self) -> bool:
        """Count a refusal; returns whether there have been too many to go on."""
        try:
            self._violations.take(1, now_us=self._clock.monotonic_us())
        except Throttled:
            return True
        return False
