"""Fixtures of the model store's tests."""

from collections.abc import Iterator

import pytest

from tests.workers.models.file_server import FileServer, serving


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a file server of the test's own."""
    with serving() as running:
        yield running
