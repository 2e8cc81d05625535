"""The stand-in for CuPy in this process, or on the path of another; and the real one's gate."""

import sys
from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"
ROOMS = (
    "cupy",
    "cupyx",
    "counting.cupy_memory",
    "minigpt.fast.cublas_array",
    "minigpt.fast.cuda.launch",
    "minigpt.fast.cuda.prompts",
    "minigpt.fast.cuda.step",
    "minigpt.parallel.nccl",
)


def _rooms():
    return [name for name in sys.modules if any(f"{name}.".startswith(f"{r}.") for r in ROOMS)]


@pytest.fixture(name="cupy")
def stand_in(monkeypatch):
    """The stand-in, imported anew, as `cupy`. No GPU code runs."""
    for name in _rooms():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(FAKES)
    import cupy

    assert cupy.__version__ == "stand-in over NumPy"
    yield cupy
    for name in _rooms():
        del sys.modules[name]


def real_cupy():
    """CuPy with a GPU, or the test is skipped: CuPy imports without one."""
    cupy = pytest.importorskip("cupy")
    if not cupy.is_available():
        pytest.skip("CuPy is here, a GPU is not")
    return cupy
