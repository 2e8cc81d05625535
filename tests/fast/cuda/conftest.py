"""The kernels as a library for this CPU, compiled once."""

import shutil

import pytest
from emulator import built


@pytest.fixture(autouse=True)
def _not_followed(monkeypatch):
    """Coverage follows as a debugger does."""
    monkeypatch.setattr("minigpt.fast.replay.watched", lambda: False)


@pytest.fixture(scope="session")
def library():
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    return built()
