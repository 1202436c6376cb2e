"""Where the files are that ship in `ops/media`."""

from pathlib import Path


def media_file(name: str) -> Path:
    """Return the path of a shipped file."""
    return Path(__file__).parent / "media" / name
