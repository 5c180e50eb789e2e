"""A fixture for tests that write files."""

import contextlib

import pytest


@pytest.fixture
def full_disk():
    """A function `size -> context` in which a write past `size` bytes of a file fails."""
    resource = pytest.importorskip("resource", reason="needs RLIMIT_FSIZE")

    @contextlib.contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
