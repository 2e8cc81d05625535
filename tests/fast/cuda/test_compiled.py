"""The kernels compiled for GPUs that are not here: registers, spills, shared memory.

By nvcc where it is installed, by NVRTC where its wheel is (`pip install -e '.[nvrtc]'`).
"""

import ctypes
import re
import shutil
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkpoints import ROOT

from minigpt.fast.cuda.source import numbers, source

ARCHITECTURES = (75, 80, 86, 89, 90)
REGISTERS = 65536  # of a multiprocessor
NVCC = shutil.which("nvcc")


def by_nvcc(architecture, folder):
    """What ptxas says of the kernels."""
    (folder / "kernels.cu").write_text(source())
    command = [NVCC, "-std=c++17", "-cubin", f"-arch=sm_{architecture}", "-Xptxas", "-v"]
    command += ["kernels.cu", "-o", "kernels.cubin"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stderr


@cache
def nvrtc():
    """NVRTC of the wheel, or the test is skipped."""
    found = find_spec("nvidia")
    folders = found.submodule_search_locations if found else []
    libraries = [file for f in folders for file in Path(f).glob("*/lib/libnvrtc.so.*")]
    if not libraries:
        pytest.skip("NVRTC's wheel is not installed: .[nvrtc]")
    return ctypes.CDLL(str(libraries[0]))


def by_nvrtc(architecture):
    """As `by_nvcc`."""
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    code = source().encode()
    assert not library.nvrtcCreateProgram(ctypes.byref(program), code, b"kernels.cu", 0, None, None)
    options = [b"-std=c++17", b"-arch=sm_%d" % architecture, b"--ptxas-options=-v"]
    given = (ctypes.c_char_p * len(options))(*options)
    status = library.nvrtcCompileProgram(program, len(options), given)
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    assert status == 0, log.value.decode()
    return log.value.decode()


def figures(said):
    """Registers of a thread, bytes that are spilled, and of shared memory beside the ring."""
    [registers] = re.findall(r"Used (\d+) registers", said)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    assert len(spills) >= 2
    [shared] = re.findall(r"(\d+) bytes smem", said)
    return int(registers), sum(map(int, spills)), int(shared)


def assert_fits(said):
    registers, spilled, _ = figures(said)
    assert spilled == 0
    assert registers * numbers()["THREADS"] <= REGISTERS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_spills_by_nvrtc(architecture):
    assert_fits(by_nvrtc(architecture))


@pytest.mark.skipif(not NVCC, reason="nvcc is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_spills_by_nvcc_and_the_table_is_true(tmp_path, architecture):
    said = by_nvcc(architecture, tmp_path)
    assert_fits(said)
    version = subprocess.run([NVCC, "--version"], capture_output=True, text=True).stdout
    text = (ROOT / "docs" / "gpu.md").read_text()
    if re.search(r"nvcc (\d+\.\d+)", text)[1] not in version:
        pytest.skip("the table is of another nvcc")
    [row] = re.findall(rf"^\| sm_{architecture} \|(.*)\|$", text, re.M)
    assert tuple(map(int, row.split("|"))) == figures(said)


def test_what_spills_would_be_seen():
    said = "Used 80 registers, 640 bytes smem\n 92 bytes spill stores, 60 bytes spill loads"
    assert figures(said) == (80, 152, 640)
    with pytest.raises(AssertionError):
        assert_fits(said)
