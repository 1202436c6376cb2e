"""Settings: `MIRAGE_*` environment variables, read once into one frozen record.

An unknown `MIRAGE_*` variable or a bad value is an error that names the variable and what is accepted: a misspelt
setting that is silently ignored costs an evening.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ops.policy_file import load_policy
from schemas.errors import Misconfigured
from schemas.names import Kind
from schemas.policy_config import CHUNK_LADDER_MS
from workers.faults import fault_plan

PREFIX = "MIRAGE_"
MOST_FACES = 16
ENGINES = ("auto", "embedded", "neural")
PROVIDERS = ("tensorrt", "cuda", "coreml", "cpu")


def _text(raw: str) -> str:
    return raw


def _optional(raw: str) -> str | None:
    return raw or None


def _path(raw: str) -> Path:
    return Path(raw).expanduser()


def _list(raw: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in raw.split(",") if part.strip())


def _one_of(*accepted: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw not in accepted:
            raise ValueError(f"expected one of {', '.join(accepted)}")
        return raw

    return parse


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not re.fullmatch(r"-?\d+", raw) or not low <= int(raw) <= high:
            raise ValueError(f"expected a whole number from {low} to {high}")
        return int(raw)

    return parse


def _chunk(raw: str) -> int:
    if raw not in map(str, CHUNK_LADDER_MS):
        raise ValueError(f"expected one of {', '.join(map(str, CHUNK_LADDER_MS))}")
    return int(raw)


def _fault(raw: str) -> str:
    try:
        fault_plan(raw, Kind.VIDEO)
    except Misconfigured as error:
        raise ValueError(str(error)) from None
    return raw


def _name(raw: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", raw):
        raise ValueError("expected at most 64 letters, digits, dots, - and _")
    return raw


def _policy(raw: str) -> Path:
    path = Path(raw).expanduser()
    try:
        load_policy(path)
    except Misconfigured as error:
        raise ValueError(str(error)) from None
    return path


def _url(raw: str) -> str | None:
    if raw and not re.match(r"(redis|rediss|unix)://", raw):
        raise ValueError("expected redis://, rediss:// or unix://")
    return raw or None


def _between(low: float, high: float) -> Callable[[str], float]:
    def parse(raw: str) -> float:
        if not re.fullmatch(r"-?\d+(\.\d+)?", raw) or not low <= float(raw) <= high:
            raise ValueError(f"expected a number from {low} to {high}")
        return float(raw)

    return parse


def _http(raw: str) -> str | None:
    if raw and not re.match(r"https?://", raw):
        raise ValueError("expected http:// or https://")
    return raw or None


def _setting(default: Any, parse: Callable[[str], Any], meaning: str) -> Any:
    return field(default=default, metadata={"parse": parse, "meaning": meaning})


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "mirage"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting, by the name that follows `MIRAGE_`."""

    redis_url: str | None = _setting(None, _url, "media plane server (and events, unless set); absent: embedded")
    events_url: str | None = _setting(None, _url, "events plane server; absent: MIRAGE_REDIS_URL, or embedded")
    server_binary: str | None = _setting(None, _optional, "server binary for the embedded planes")
    data_dir: Path = field(
        default_factory=_default_data_dir,
        metadata={"parse": _path, "meaning": "keys, identities and events of the embedded servers"},
    )
    host: str = _setting("127.0.0.1", _text, "address that ingress listens on")
    port: int = _setting(8787, _whole(0, 65535), "port that ingress listens on; 0 takes a free one")
    allowed_origins: tuple[str, ...] = _setting((), _list, "origins that may open sessions; own origin always may")
    jwt_secret: str | None = _setting(None, _optional, "HS256 secret, 32 bytes or more; absent: made in the data dir")
    jwt_keys: Path | None = _setting(None, _path, "JWKS file with verification keys (EdDSA, ES256, RS256) by kid")
    engine: str = _setting("auto", _one_of(*ENGINES), "face engine; auto: neural where its models and a GPU are")
    voice_engine: str = _setting("auto", _one_of(*ENGINES), "voice engine; auto: as above")
    provider: str = _setting("auto", _one_of("auto", *PROVIDERS), "what runs neural graphs; auto: the best that does")
    cuda_graphs: int = _setting(0, _whole(0, 1), "1: record neural face graphs once and replay them, on CUDA")
    models_dir: Path | None = _setting(None, _path, "model store; absent: models in the data directory")
    model_mirror: str | None = _setting(
        None, _optional, "folder or URL that models are pulled from, in place of theirs"
    )
    inswapper_url: str | None = _setting(None, _http, "where inswapper_128_fp16.onnx is pulled from; never what it is")
    codeformer_url: str | None = _setting(None, _http, "where codeformer.pth is pulled from; never what it is")
    inswapper: str = _setting("fp16", _one_of("fp16", "fp32"), "precision of the neural swap; never changed silently")
    swap_light: float = _setting(0.0, _between(0, 1), "how far neural faces take on the performer's light and colours")
    swap_keep_mouth: int = _setting(0, _whole(0, 1), "1: the performer's own mouth stays in the neural swap")
    occlusion: int = _setting(0, _whole(0, 1), "1: hands, hair and things before a neural face stay before it")
    voice_model: str | None = _setting(None, _optional, "neural voice that is spoken with; absent: the only one there")
    voice_f0: Literal["rmvpe", "swiftf0", "embedded"] = _setting(
        "rmvpe", _one_of("rmvpe", "swiftf0", "embedded"), "what measures pitch for the neural voice"
    )
    codeformer_fidelity: float = _setting(0.75, _between(0, 1), "how close CodeFormer keeps to the swapped face")
    codeformer_every: int = _setting(4, _whole(0, 100), "CodeFormer runs on every n-th frame of a face; 0: never")
    batch_window_ms: int = _setting(4, _whole(0, 5), "how long a frame waits for other sessions' frames, on a GPU, ms")
    voice_overlap_ms: int = _setting(30, _whole(0, 36), "fade between windows of the neural voice; 0: hard joins, ms")
    voice_semitones: float = _setting(0.0, _between(-24, 24), "added to the pitch of the neural voice, semitones")
    voice_formants: float = _setting(0.0, _between(-6, 6), "by which formants of the neural voice move, semitones")
    voice_index_rate: float = _setting(0.0, _between(0, 1), "how far content is pulled to the neural voice's own")
    voice_fixed_noise: int = _setting(0, _whole(0, 1), "1: the neural voice's noise follows the frame, replay is exact")
    voice_fixed_blocks: int = _setting(0, _whole(0, 1), "1: what the neural voice says does not depend on chunks; dear")
    video_workers: int = _setting(1, _whole(0, 64), "video worker processes of `mirage up`")
    voice_workers: int = _setting(1, _whole(0, 64), "voice worker processes of `mirage up`")
    record_workers: int = _setting(1, _whole(0, 64), "record worker processes of `mirage up`")
    worker_name: str = _setting(
        "", _name, "first part of the names that workers sign events with; empty: this machine's name"
    )
    sessions_per_worker: int = _setting(4, _whole(1, 256), "sessions that one worker process holds")
    max_faces: int = _setting(
        1, _whole(1, MOST_FACES), "faces swapped at most, the largest first, unless a session says"
    )
    chunk_ms: int = _setting(192, _chunk, "audio chunk at session start, ms")
    max_frame_bytes: int = _setting(262_144, _whole(1024, 16_777_216), "largest frame or chunk accepted, bytes")
    media_retention_s: int = _setting(15, _whole(1, 3600), "how long media stays on its stream, s")
    event_ttl_s: int = _setting(3600, _whole(1, 31_536_000), "how long an ended session's events stay, s")
    archive_dir: Path | None = _setting(None, _path, "recorded sessions; absent: `archives` in the data directory")
    video_deadline_ms: int = _setting(400, _whole(1, 3_600_000), "older frames are dropped, ms")
    audio_deadline_ms: int = _setting(800, _whole(1, 3_600_000), "older chunks are skipped, ms")
    video_order: str = _setting("newest", _one_of("newest", "fifo"), "newest: drop what is superseded; fifo: never")
    lease_ms: int = _setting(3000, _whole(300, 600_000), "a worker silent for this long loses its sessions, ms")
    fault: str = _setting("", _fault, "slows engines, for tests and demos: video.swap:+60ms@10s..20s; empty: nothing")
    policy: Path | None = _setting(None, _policy, "TOML file with the thresholds of new sessions; absent: the defaults")
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "least severe log line")
    log_format: str = _setting("console", _one_of("console", "json"), "log lines for people, or for machines")


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as `mirage doctor` shows it."""

    name: str
    value: str
    source: str
    meaning: str


def redacted(url: str) -> str:
    """Return a server URL without its credentials, for people's eyes and logs."""
    return re.sub(r"//[^/@]*@", "//(hidden)@", url)


def _shown(name: str, value: str) -> str:
    if name in ("inswapper_url", "codeformer_url", "model_mirror"):
        value = value.partition("?")[0]  # a query may be a signature
    return "(hidden)" if name == "jwt_secret" else redacted(value)


def read(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`; raises `Misconfigured` naming the variable and what is accepted."""
    known = {PREFIX + item.name.upper(): item for item in fields(Settings)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise Misconfigured(f"unknown setting {unknown[0]}; known are {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, item in known.items():
        if name in environ:
            try:
                values[item.name] = item.metadata["parse"](environ[name])
            except ValueError as error:
                raise Misconfigured(f"{name}={_shown(item.name, environ[name])!r}: {error}") from None
    return Settings(**values)


def explain(settings: Settings, environ: Mapping[str, str]) -> list[SettingRow]:
    """Return every setting with its value, where it came from and what it means."""
    rows = []
    for item in fields(Settings):
        name = PREFIX + item.name.upper()
        value = getattr(settings, item.name)
        shown = "-" if value in (None, ()) else _shown(item.name, str(value))
        rows.append(SettingRow(name, shown, "environment" if name in environ else "default", item.metadata["meaning"]))
    return rows
