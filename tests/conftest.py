"""How the tests draw their examples, and the line that says how many there were."""

import os

# Two runs at once and a BLAS that spins on every core slow each other down many times.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from helpers import DRAWN
from hypothesis import settings

settings.register_profile("ci", deadline=None, print_blob=True)
settings.load_profile("ci")


def pytest_terminal_summary(terminalreporter):
    for claim, cases in DRAWN.items():
        terminalreporter.write_line(f"oracle: {claim}: {cases} cases drawn")
