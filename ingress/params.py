"""The parameters in force for a session's media: what ingress stamps into every header and tells its clients."""

from dataclasses import asdict, dataclass
from typing import Any

from schemas.policy_config import VIDEO_LADDER


@dataclass(frozen=True, slots=True)
class StreamParams:
    """One set of parameters. A change is a new set, put where the old one was."""

    chunk_ms: int
    quality: int = VIDEO_LADDER[0].quality
    fps: int = VIDEO_LADDER[0].fps
    size: int = VIDEO_LADDER[0].size
    rung: int = 0
    reason: str = ""
    """The rule behind the last change; empty before the first."""

    def as_json(self) -> dict[str, Any]:
        """Return the wire form of `params`."""
        return asdict(self)
