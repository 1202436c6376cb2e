"""Time, passed in wherever logic needs it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for names and records, monotonic time for ages and waits. The two are never subtracted."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""
        ...

    def monotonic_us(self) -> int:
        """Microseconds that never step back."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Return wall time in milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_us(self) -> int:
        """Return monotonic time in microseconds."""
        return time.monotonic_ns() // 1_000
