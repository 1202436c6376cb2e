"""Servers of their own: the policy service here claims every session's work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import servers
from tests.ops.replay.stage import Command


@pytest.fixture(scope="module")
def server_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two real servers: (media URL, events URL)."""
    with servers(tmp_path_factory.mktemp("servers")) as (media, events):
        yield media.url, events.url


@pytest.fixture
def mirage(server_urls: tuple[str, str], tmp_path: Path) -> Command:
    """Return the command line, on these servers."""
    return Command(server_urls, tmp_path)
