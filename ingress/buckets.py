"""Token buckets: a steady rate with room for a burst. Local to one connection, a microsecond a take. Pure."""

from schemas.errors import Throttled


class Bucket:
    """Holds up to `burst` tokens and gains `rate` of them a second."""

    __slots__ = ("_at_us", "_burst", "_name", "_rate", "_tokens")

    def __init__(self, name: str, rate: float, burst: float, *, now_us: int) -> None:
        """Start full. `name` is what the error calls it."""
        self._name, self._rate, self._burst = name, rate, burst
        self._tokens, self._at_us = float(burst), now_us

    def take(self, amount: float, *, now_us: int) -> None:
        """Take `amount` tokens; raises `Throttled`, and takes nothing, when there are too few."""
        self._tokens = min(self._burst, self._tokens + (now_us - self._at_us) * self._rate / 1e6)
        self._at_us = now_us
        if self._tokens < amount:
            wait_ms = int((amount - self._tokens) / self._rate * 1000) + 1
            raise Throttled(f"too much {self._name}: {self._rate:g} a second are accepted", retry_after_ms=wait_ms)
        self._tokens -= amount
