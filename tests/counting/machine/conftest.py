"""Whether this process can be stepped; the processor's features."""

import pytest


@pytest.fixture(autouse=True)
def steppable(request):
    """Skips where nothing can be stepped: another system, a debugger, no capstone."""
    if "anywhere" in request.fixturenames:
        return
    pytest.importorskip("capstone", reason="capstone is not installed: .[machine]")
    from counting.machine import Unavailable, executed

    try:
        executed(len, ())
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def anywhere():
    """Asked for by tests of what happens where nothing can be stepped."""
