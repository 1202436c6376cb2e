"""The numbers that govern leases."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How a runner claims, keeps and gives up work. Milliseconds."""

    capacity: int = 4
    """Sessions held at once."""
    lease_ms: int = 3_000
    """An owner that has not beaten for this long is dead; its sessions are taken over."""
    beat_ms: int = 500
    poll_ms: int = 150
    """How often to look for work when there was none."""
    check_ms: int = 500
    """How often to look whether a session still lives."""
    drain_ms: int = 10_000
    """How long work in flight may take to finish after SIGTERM."""

    def __post_init__(self) -> None:
        """Refuse numbers under which a healthy worker would lose its leases."""
        if self.beat_ms * 3 > self.lease_ms:
            raise ValueError(f"beat_ms={self.beat_ms} must be at most a third of lease_ms={self.lease_ms}")
        if self.capacity < 1:
            raise ValueError(f"capacity={self.capacity}; expected at least 1")
