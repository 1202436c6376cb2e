"""Servers of their own: these tests claim every session's work."""

from collections.abc import Iterator

import pytest

from tests.faults.harness import servers


@pytest.fixture(scope="module")
def server_urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two real servers: (media URL, events URL)."""
    with servers(tmp_path_factory.mktemp("servers")) as (media, events):
        yield media.url, events.url
