"""The policy's state for people: names instead of positions, and what one event changed in it."""

from typing import Any

import msgspec


def readable(value: Any) -> Any:
    """Return a state as nested dicts and lists, fields by name; the thresholds are left out."""
    if isinstance(value, msgspec.Struct):
        names = (name for name in value.__struct_fields__ if name != "config")
        return {name: readable(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple):
        return [readable(item) for item in value]
    if isinstance(value, dict):
        return {str(key): readable(item) for key, item in value.items()}
    return value if isinstance(value, str | int | None) else str(value)


def changes(before: Any, after: Any, *, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Return what differs between two readable states: dotted name → (before, after)."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in {**before, **after}:
            inner = f"{path}.{name}" if path else name
            found |= changes(before.get(name), after.get(name), path=inner)
        return found
    return {} if before == after else {path: (before, after)}
