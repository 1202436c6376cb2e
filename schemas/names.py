"""Every stream and key, in one place.

One session is one hash tag (the braces are literal), so all of its keys share a cluster slot. Two planes, on one server
or two: *media* (frames and sound, no persistence) and *events* (decisions, facts and records, AOF).
"""

from enum import StrEnum


class Kind(StrEnum):
    """Kinds of exclusive work on a session. Each has an epoch; all but `publish` have a work stream."""

    PUBLISH = "publish"  # media plane: which connection may write input
    VIDEO = "video"  # media plane
    VOICE = "voice"  # media plane
    POLICY = "policy"  # events plane
    RECORD = "record"  # events plane; only sessions that asked for it


class SessionKeys:
    """The keys of one session."""

    def __init__(self, sid: str) -> None:
        """Name the keys of session `sid`."""
        tag = f"mirage:{{{sid}}}"
        self.sid = sid
        self.video_in = f"{tag}:video:in"
        self.video_out = f"{tag}:video:out"
        self.audio_in = f"{tag}:audio:in"
        self.audio_out = f"{tag}:audio:out"
        self.epoch = f"{tag}:epoch"
        self.session = f"{tag}:session"
        self.metrics = f"{tag}:metrics"
        self.policy = f"{tag}:policy"
        self.snapshot = f"{tag}:policy:snapshot"
        self.control = f"{tag}:control"

    @property
    def media_plane(self) -> tuple[str, ...]:
        """Keys that live on the media plane."""
        return (self.video_in, self.video_out, self.audio_in, self.audio_out, self.epoch)

    @property
    def events_plane(self) -> tuple[str, ...]:
        """Keys that live on the events plane."""
        return (self.session, self.metrics, self.policy, self.snapshot, self.control, self.epoch)


def work(kind: Kind) -> str:
    """Return the work stream of `kind`: one entry per session that wants a worker of that kind."""
    return f"mirage:work:{{{kind}}}"


WORK_GROUP = "workers"
"""The consumer group of every work stream; its pending entries are the leases."""


def identity(identity_id: str) -> str:
    """Return the hash of one identity and its consent record."""
    return f"mirage:identity:{{{identity_id}}}"


def used_token(jti: str) -> str:
    """Return the key that marks a single-use token as spent."""
    return f"mirage:jti:{{{jti}}}"


def denied(subject_or_jti: str) -> str:
    """Return the key that denies a token, or a subject's tokens issued before the minimum that it holds."""
    return f"mirage:deny:{{{subject_or_jti}}}"


SESSIONS = "mirage:sessions"
"""Hash: session ID → creation time (ms). An index for listing; the session's own hash is the truth."""

IDENTITIES = "mirage:identities"
"""Hash: identity ID → creation time (ms)."""


def login(code: str) -> str:
    """Return the hash of a one-time login code: `sub`, and `scope`, separated by spaces. It expires by its TTL."""
    return f"mirage:login:{{{code}}}"


def used_login(code: str) -> str:
    """Return the key that marks a login code as spent."""
    return f"mirage:login:{{{code}}}:used"
