"""Which library a mapped file belongs to, wherever it lies."""

import ctypes
import random

import pytest

from counting.machine import stepper
from counting.machine.libraries import Mapped, library
from counting.machine.ran import COMPILED

FILES = {
    "bin/python3.12": "Python",
    "lib/libpython3.12.so.1.0": "Python",
    "lib/python3.12/lib-dynload/_json.cpython-312.so": "Python",
    "lib/python3.12/site-packages/numpy/_core/_multiarray_umath.cpython-312.so": "NumPy",
    "lib/python3.12/site-packages/numpy.libs/libscipy_openblas64_-8fb3d286.so": "OpenBLAS",
    "lib/python3.12/site-packages/scipy_openblas64/lib/libscipy_openblas64_.so": "OpenBLAS",
    "lib/libopenblasp-r0.3.28.so": "OpenBLAS",
    "lib/libOpenBLAS.so.0": "OpenBLAS",
    "lib/libm.so.6": "libm",
}
FOLDERS = "/opt/conda/envs/openblas", "/usr", "/usr/lib/openblas-pthread", "/home/OpenBLAS/.venv"


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_may_have_any_name(folder):
    for file, of in FILES.items():
        assert library(f"{folder}/{file}") == of
        assert library(f"{folder}/{file} (deleted)") == COMPILED


def test_threads_are_asked_of_openblas_alone(monkeypatch):
    """Of files that are there: one that was deleted cannot be opened again."""
    rng, opened = random.Random(1), []
    of = {f"{folder}/{file}": name for folder in FOLDERS for file, name in FILES.items()}
    files = [*of]
    gone = set(rng.sample(files, len(files) // 2))
    mapped = [f"{file} (deleted)" if file in gone else file for file in files]
    monkeypatch.setattr(Mapped, "files", lambda self: mapped)
    monkeypatch.setattr(ctypes, "CDLL", lambda path: opened.append(path))
    assert stepper._openblas() == []
    assert set(opened) == {file for file in files if of[file] == "OpenBLAS"} - gone
    assert opened
