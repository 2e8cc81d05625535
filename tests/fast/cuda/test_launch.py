"""How kernels are asked for: what is compiled, what is launched, what does not fit.

CuPy is one that takes notes. No GPU code runs here.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from gpu import stand_in  # noqa: F401

from minigpt import InputError


class Noted:
    """A module and its kernels."""

    def __init__(self, code, options):
        self.options, self.launches, self.ptr, self.kernel = options, [], 1, self

    def compile(self):
        pass

    def get_function(self, name):
        return self

    def __call__(self, *given, **options):
        self.launches.append((given, options))


def compiled(monkeypatch, shared, blocks_of_one=1, **options):
    """`Compiled` for a GPU of 132 multiprocessors, and what it asked for."""
    launch = importlib.import_module("minigpt.fast.cuda.launch")
    told = {"multiProcessorCount": 132, "sharedMemPerBlockOptin": shared}
    cuda = SimpleNamespace(
        get_device_id=lambda: 0,
        runtime=SimpleNamespace(getDeviceProperties=lambda device: told),
        Device=lambda: SimpleNamespace(compute_capability="90"),
        driver=SimpleNamespace(
            occupancyMaxActiveBlocksPerMultiprocessor=lambda kernel, threads, size: blocks_of_one
        ),
    )
    monkeypatch.setattr(launch, "cupy", SimpleNamespace(cuda=cuda, RawModule=Noted))
    return launch.Compiled(**options)


@pytest.mark.parametrize(("shared", "depth"), [(64, 4), (99, 8), (163, 8), (227, 16)])
def test_the_ring_is_as_deep_as_shared_memory_lets_it(cupy, monkeypatch, shared, depth):
    kernels = compiled(monkeypatch, shared * 1024)
    assert (kernels.blocks, kernels.threads, kernels.depth) == (132, 512, depth)
    assert f"-DDEPTH={depth}" in kernels._module.options


def test_a_step_is_one_cooperative_launch(cupy, monkeypatch):
    kernels = compiled(monkeypatch, 227 * 1024)
    kernels.launch("jobs", (3, 5), "done", "position", 160_000, True)
    kernels.launch("jobs", (3, 1), "done", "position", 160_000, False)
    kernels.call("begin", 1, 1, "state", 7, None, 0.5)
    assert kernels._module.max_dynamic_shared_size_bytes == 160_000
    one = ((132,), (512,), ("jobs", 3, 5, "done", "position"), 160_000)
    other = ((132,), (512,), ("jobs", 3, 1, "done", "position"), 160_000)
    together, apart, by_name = kernels._module.launches
    assert together == (one, {"enable_cooperative_groups": True})
    assert apart == (other, {"enable_cooperative_groups": False})
    assert by_name == (((1,), (1,), ("state", 7, 0, 0.5)), {})
    assert [type(word) for word in by_name[0][2]] == [str, np.int64, np.uint64, np.float64]
    assert [type(word) for word in together[0][2][1:3]] == [np.int32] * 2


def test_a_grid_that_does_not_fit_is_an_error(cupy, monkeypatch):
    """CuPy would make it smaller, and the first barrier would wait forever."""
    kernels = compiled(monkeypatch, 227 * 1024, blocks_of_one=0)
    with pytest.raises(InputError, match="160,000 bytes of shared memory does not fit"):
        kernels.launch("jobs", (0, 5), "done", "position", 160_000, True)
    assert not kernels._module.launches
    with pytest.raises(InputError, match="are too few"):
        compiled(monkeypatch, 16 * 1024)
