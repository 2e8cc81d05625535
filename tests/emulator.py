"""The kernels for a GPU, compiled for this CPU and run there: see `fakes/cuda/cpu.h`."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from minigpt.fast.cuda.job import Job, entries, linked, table
from minigpt.fast.cuda.source import numbers, source

SHIM = Path(__file__).parent / "fakes" / "cuda"
NUMBERS = numbers()


def built(folder, *options, what="library"):
    """A library of the kernels, or the test is skipped where nothing can compile it."""
    if not shutil.which("g++"):
        pytest.skip("g++ is not installed")
    (folder / "kernels.cu").write_text(source())
    file = folder / f"{what}.so"
    flags = ["-std=c++17", "-O2", *os.environ.get("MINIGPT_EMULATOR", "").split(), "-shared", "-fPIC", "-pthread", f"-I{SHIM}", f"-I{folder}"]
    command = ["g++", *flags, *options, str(SHIM / "main.cc"), "-o", str(file)]
    subprocess.run(command, check=True)
    return file


class Emulator:
    """Runs jobs on this machine, as `launch.Kernels` does on a GPU.

    Args:
        library: what `built` gave.
        blocks: how many threads of the system take part.
        threads: of each block, a multiple of 32.
    """

    def __init__(self, library, blocks=3, threads=64):
        self.blocks, self.threads, self.depth = blocks, threads, NUMBERS["DEPTH"]
        self.shared_limit = 227 * 1024
        self._library = ctypes.CDLL(str(library))
        self._done = np.zeros(1, np.uint32)
        self._n = np.zeros(1, np.int32)

    def launch(self, jobs, shared, n, first, count):
        """Jobs (…, 2, WORDS) of int64 at position n, by address."""
        self._n[0] = n
        where = [ctypes.c_void_p(x.ctypes.data) for x in (jobs, self._done, self._n)]
        self._library.launch(
            self.blocks, self.threads, ctypes.c_long(shared), where[0], first, count, *where[1:]
        )
        assert self._done[0] == 0  # as it was found

    def counted(self):
        """How often was multiplied and added since, and how many exponentials were taken."""
        counts = np.zeros(2, np.uint64)
        self._library.counted(ctypes.c_void_p(counts.ctypes.data))
        return counts.tolist()

    def run(self, *jobs):
        """Jobs of one position, one after another."""
        linked([*jobs])
        words = table([*jobs])
        self.launch(entries(words, np.zeros_like(words)), self.shared_limit, 0, 0, len(jobs))


def job(structure, meets=True, **fields):
    """A job whose arrays are given as arrays, and are held by it."""
    given = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    made = Job(structure, given | {"meets": int(meets)})
    made.held = fields
    return made


def poisoned(*shape):
    """Room for a result: NaN until it is there."""
    return np.full(shape, np.nan, np.float32)
