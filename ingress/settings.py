"""What an ingress can be told. `ops` fills it from the environment."""

from dataclasses import dataclass, field

from schemas.errors import Misconfigured
from schemas.policy_config import CHUNK_LADDER_MS, PolicyConfig


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Token buckets of one connection: a steady rate, and how much may come at once."""

    bytes_per_s: int = 6_000_000
    bytes_burst: int = 12_000_000
    video_per_s: int = 60
    video_burst: int = 120
    audio_per_s: int = 200
    """Messages; what is in them is limited by `audio_speed`."""
    audio_burst: int = 400
    audio_speed: float = 2.0
    """Seconds of sound a second; a client that catches up after a stall may be faster than real time."""
    audio_ahead_s: float = 20.0
    control_per_s: int = 10
    control_burst: int = 40
    connects_per_s: float = 2.0
    """Connect tokens of one session."""
    connects_burst: int = 64
    """All clients that a session may have come back at once, and once more."""
    violations_per_s: int = 5
    """Refusals beyond this rate close the connection with 4429."""
    violations_burst: int = 100


@dataclass(frozen=True, slots=True)
class IngressSettings:
    """Limits, lifetimes and defaults of an ingress. Durations are in the unit that the name ends with."""

    allowed_origins: frozenset[str] = frozenset()
    """Exact `Origin` values that may open a WebSocket. A client without the header is no browser, and may."""

    max_frame_bytes: int = 262_144
    max_long_side: int = 1920
    max_short_side: int = 1080
    """Of a frame in pixels, whichever way it is turned: phones film upright."""
    max_sound_ms: int = 2_000
    """Longest PCM message."""
    max_portrait_bytes: int = 8 << 20
    max_voice_bytes: int = 24 << 20
    default_max_faces: int = 1
    max_faces: int = 8
    max_connections: int = 32
    """Connections to one session in this process."""

    max_sessions_per_owner: int = 64
    """Live ones."""

    resume_s: int = 30
    """How long a session waits for its publisher to come back."""
    idle_s: int = 60
    """A session without traffic ends after this long; a new one waits as long for its first connection."""
    touch_s: float = 5.0
    """Traffic pushes the deadline on at most this often."""
    sweep_s: float = 5.0
    """How often overdue sessions are looked for."""
    media_retention_s: int = 15
    event_ttl_s: int = 3600

    chunk_ms: int = 192
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    """Thresholds that new sessions are created with."""

    login_ttl_s: int = 12 * 3600
    max_login_ttl_s: int = 24 * 3600
    """A login token that claims to live longer is refused."""
    connect_ttl_s: int = 60
    leeway_s: int = 30
    """Clocks of issuers may differ by this much."""
    expiry_warning_s: int = 30

    tick_s: float = 1.0
    """How often a connection checks its rights and reports its status."""
    report_s: float = 1.0
    """How often a publishing connection reports backlog and thinned frames as metric events."""
    outbox_audio: int = 32
    """Sound messages that may wait for a slow reader; older ones are dropped. Of pictures only the newest waits."""
    rates: RateLimits = field(default_factory=RateLimits)

    def __post_init__(self) -> None:
        """Refuse values that cannot work; raises `Misconfigured` naming the field."""
        if self.chunk_ms not in CHUNK_LADDER_MS:
            raise Misconfigured(f"chunk_ms is {self.chunk_ms}; expected one of {CHUNK_LADDER_MS}")
        if not 0 < self.connect_ttl_s <= 60:
            raise Misconfigured(f"connect_ttl_s is {self.connect_ttl_s}; a connect token lives 1 to 60 seconds")
        if "null" in self.allowed_origins or "*" in self.allowed_origins:
            raise Misconfigured("allowed_origins names exact origins; `null` and `*` are never allowed")
