"""Thresholds from a TOML file: one `name = number` a line, names as in `PolicyConfig`; what is not named stays."""

import difflib
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ops.policy_thresholds import Threshold, contradiction, thresholds
from schemas.errors import Misconfigured
from schemas.policy_config import PolicyConfig


def load_policy(path: Path | None, *, base: PolicyConfig | None = None) -> PolicyConfig:
    """Return `base` (the defaults) with the thresholds of the file at `path`; None reads nothing.

    Raises `Misconfigured`, which names the file, the key, its value and what is accepted.
    """
    base = base or PolicyConfig()
    if path is None:
        return base
    known = {threshold.name: threshold for threshold in thresholds()}
    read = _toml(path)
    for name, value in read.items():
        if name not in known:
            raise Misconfigured(f"{path}: unknown threshold {name}; {_nearest(name, known)}")
        _check(path, known[name], value)
    config = msgspec.structs.replace(base, **read)
    if (found := contradiction(config)) is not None:
        name, why = found
        raise Misconfigured(f"{path}: {name} = {getattr(config, name)} {why}")
    return config


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured(f"{path} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{path} is not TOML: {error}") from None


def _nearest(name: str, known: dict[str, Threshold]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else "`mirage policy show` lists all of them"


def _check(path: Path, threshold: Threshold, value: object) -> None:
    if type(value) is not int or not threshold.least <= value <= threshold.most:
        raise Misconfigured(
            f"{path}: {threshold.name} = {_shown(value)}; expected {threshold.accepted}"
            + (f" ({threshold.unit})" if threshold.unit else "")
        )


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "a table" if isinstance(value, dict) else repr(value)
