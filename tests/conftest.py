"""How the tests draw their examples, and the line that says how many there were."""

import os

# Two runs at once and a BLAS that spins on every core slow each other down many times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from helpers import DRAWN
from hypothesis import settings

from counting.composite import composite
from minigpt import ops

settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _no_kernels_left_behind():
    """A model that was loaded put kernels in the place of composites, for all models."""
    yield
    for part in vars(ops).values():
        if isinstance(part, composite):
            part.run = part.function


def pytest_terminal_summary(terminalreporter):
    for claim, cases in DRAWN.items():
        terminalreporter.write_line(f"oracle: {claim}: {cases} cases drawn")
