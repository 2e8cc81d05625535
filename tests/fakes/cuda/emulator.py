"""The kernels for a GPU, compiled for this CPU and run there: see `cpu.h`. No GPU code runs."""

import atexit
import ctypes
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from minigpt.fast.cuda.job import Job, entries, linked, table
from minigpt.fast.cuda.source import numbers, source

SHIM = Path(__file__).parent
NUMBERS = numbers()


def built():
    """A library of the kernels, made by g++ once for each source."""
    return _built(source())


@cache
def _built(text):
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "kernels.cu").write_text(text)
    file = folder / "kernels.so"
    flags = ["-std=c++20", "-O2", "-shared", "-fPIC", "-pthread", f"-I{SHIM}", f"-I{folder}"]
    flags += os.environ.get("MINIGPT_EMULATOR", "").split()
    command = ["g++", *flags, str(SHIM / "main.cc"), "-o", str(file)]
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
        self.shared_limit, self.capability = 227 * 1024, 90
        self._library = ctypes.CDLL(str(library))

    def launch(self, jobs, run, done, position, shared, meets):
        """As `step.Kernels` says; arrays of NumPy, or of the stand-in for CuPy."""
        jobs, done, position = (ctypes.c_void_p(_where(x)) for x in (jobs, done, position))
        sizes = self.blocks, self.threads, ctypes.c_long(shared)
        self._library.launch(*sizes, jobs, *run, done, position)

    def call(self, name, blocks, threads, *words):
        """A kernel by name: arrays, whole numbers, and at the end one that is not."""
        given = [_word(x) for x in words]
        places = (ctypes.c_void_p * len(given))(*map(ctypes.addressof, given))
        self._library.call_by_name(name.encode(), places, blocks, threads)

    def capture(self, launches):
        """Launches again when it is asked to."""
        return SimpleNamespace(launch=launches)

    def counted(self):
        """How often was multiplied and added since, and how many exponentials were taken."""
        counts = np.zeros(2, np.uint64)
        self._library.counted(ctypes.c_void_p(counts.ctypes.data))
        return counts.tolist()

    def run(self, *jobs):
        """Jobs of one position, one after another."""
        linked([*jobs])
        words = table([*jobs])
        done, position = np.zeros(1, np.uint32), np.zeros(1, np.int64)
        given = entries(words, np.zeros_like(words))
        self.launch(given, (0, len(jobs)), done, position, self.shared_limit, True)
        assert done[0] == 0  # as it was found


def _where(x):
    return x.ctypes.data if isinstance(x, np.ndarray) else x.data.ptr


def _word(x):
    if isinstance(x, float):
        return ctypes.c_double(x)
    return ctypes.c_int64(x if isinstance(x, int) else 0 if x is None else _where(x))


def job(structure, meets=True, **fields):
    """A job whose arrays are given as arrays, and are held by it."""
    given = {k: v.ctypes.data if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    made = Job(structure, given | {"meets": int(meets)})
    made.held = fields
    return made


def poisoned(*shape):
    """Room for a result: NaN until it is there."""
    return np.full(shape, np.nan, np.float32)
