"""Fixtures of the model store's tests."""

import resource
from collections.abc import Callable, Iterator

import pytest

from tests.workers.models.file_server import FileServer, serving


@pytest.fixture
def server() -> Iterator[FileServer]:
    """Return a file server of the test's own."""
    with serving() as running:
        yield running


@pytest.fixture
def room() -> Iterator[Callable[[int], None]]:
    """Return a way to make every write end at so many bytes of a file, as on a disk that fills."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
