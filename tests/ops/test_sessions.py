"""`mirage sessions` as a user runs it."""

import json
from pathlib import Path

from schemas.bus.base import Planes
from tests.ops.archive.studio import Stage, mirage


async def test_a_session_is_listed_by_its_whole_id_however_narrow_the_terminal(
    planes: Planes, server_urls: tuple[str, str], tmp_path: Path
) -> None:
    """Other commands ask for it; and work that waits for a recorder is counted."""
    stage = Stage(planes, tmp_path)
    await stage.create()
    try:
        assert stage.sid in mirage(server_urls, tmp_path, "sessions").stdout
        shown = json.loads(mirage(server_urls, tmp_path, "sessions", "--json").stdout)
        assert stage.sid in [row["sid"] for row in shown["sessions"]]
        assert shown["waiting"]["record"] >= 1
    finally:
        await stage.end()
