"""What the tests of the benchmarks share."""

import pytest
from checkpoints import checkpoint


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A tiny checkpoint, and a cache folder that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return checkpoint(tmp_path / "tiny")
