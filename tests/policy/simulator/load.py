"""What media costs, and when the machine is slower than usual. Microseconds and per mille."""

from collections.abc import Sequence
from dataclasses import dataclass

FULL = 512
"""Longer side of a frame on the top rung, in pixels."""


@dataclass(frozen=True, slots=True)
class VideoCost:
    """What one frame costs the engine."""

    fixed_us: int = 20_000
    """The same on every rung."""
    area_us: int = 0
    """At full size; falls with the frame's area."""
    detect_us: int = 0
    """The detector's, on every fifth frame."""
    behind_us: int = 0
    """Passes between the engine and publication, and holds nothing up: a pipeline."""

    def of(self, n: int, size: int) -> int:
        """Return the cost of the `n`-th frame that is worked on."""
        return self.fixed_us + self.area_us * size * size // (FULL * FULL) + (self.detect_us if n % 5 == 0 else 0)


@dataclass(frozen=True, slots=True)
class VoiceCost:
    """What one chunk costs the engine."""

    fixed_us: int = 20_000
    per_s_us: int = 100_000
    """For every second of sound."""

    def of(self, duration_us: int) -> int:
        """Return the cost of a chunk that is converted."""
        return self.fixed_us + self.per_s_us * duration_us // 1_000_000


@dataclass(frozen=True, slots=True)
class Slow:
    """Everything takes `times_pm` / 1000 of the usual from `at_s` on, for `for_s`; again every `every_s`, if given."""

    times_pm: int
    at_s: int
    for_s: int
    every_s: int = 0

    def holds(self, now_us: int) -> bool:
        """Return whether it is so now."""
        since_us = now_us - self.at_s * 1_000_000
        if since_us > 0 and self.every_s:
            since_us %= self.every_s * 1_000_000
        return 0 <= since_us < self.for_s * 1_000_000


@dataclass(frozen=True, slots=True)
class Speech:
    """Speech for `on_s`, silence for `off_s`, and so on."""

    on_s: int = 1
    off_s: int = 0

    def at(self, now_us: int) -> bool:
        """Return whether somebody speaks now."""
        return now_us % ((self.on_s + self.off_s) * 1_000_000) < self.on_s * 1_000_000


def times_pm(slow: Sequence[Slow], now_us: int) -> int:
    """Return what the usual cost is to be multiplied with, per mille."""
    factor = 1000
    for one in slow:
        if one.holds(now_us):
            factor = factor * one.times_pm // 1000
    return factor
