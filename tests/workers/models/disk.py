"""A disk that fills."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def room(most: int) -> Iterator[None]:
    """Make every write end at so many bytes of a file.

    Of every file of this process: a test's report must not be written within.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
