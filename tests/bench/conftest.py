"""What the tests of the benchmarks share."""

import pytest
from checkpoints import cache_in, checkpoint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny checkpoint, and a cache of kernels alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", cache_in(tmp_path / "cache"))
    return checkpoint(tmp_path / "tiny")
