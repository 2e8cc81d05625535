"""The kernels compiled for GPUs that are not here: registers, spills, shared memory.

By nvcc where it is installed, by NVRTC where its wheel is (`pip install -e '.[cupy]'`).
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
THREADS = {"replay": numbers()["THREADS"], "norms": 256, "activations": 256}  # of a block
THREADS |= {"attention_64": 128, "attention_128": 128, "begin": 1}
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
        pytest.skip("NVRTC's wheel is not installed: .[cupy]")
    for file in libraries[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(file))  # which it opens by name, wherever it lies itself
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
    """Of each kernel: registers of a thread, bytes spilled, bytes of shared memory."""
    found = {}
    for part in said.split("Compiling entry function '")[1:]:
        name, [registers] = part[: part.index("'")], re.findall(r"Used (\d+) registers", part)
        spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", part)
        assert len(spills) >= 2
        shared = [*re.findall(r"(\d+) bytes smem", part), "0"]
        found[name] = int(registers), sum(map(int, spills)), int(shared[0])
    return found


def assert_fits(said):
    found = figures(said)
    assert found.keys() == THREADS.keys()
    for name, (registers, spilled, _) in found.items():
        assert spilled == 0, name
        assert registers * THREADS[name] <= REGISTERS


@pytest.mark.parametrize("architecture", ARCHITECTURES[-1:] if NVCC else ARCHITECTURES)
def test_nothing_spills_by_nvrtc(architecture):
    assert_fits(by_nvrtc(architecture))


@pytest.mark.once
@pytest.mark.skipif(not NVCC, reason="nvcc is not installed")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_spills_by_nvcc_and_the_table_is_true(tmp_path, architecture):
    said = by_nvcc(architecture, tmp_path)
    assert_fits(said)
    version = subprocess.run([NVCC, "--version"], capture_output=True, text=True).stdout
    text = (ROOT / "docs" / "gpu.md").read_text()
    if re.search(r"nvcc (\d+\.\d+)", text)[1] not in version:
        pytest.skip("the table is of another nvcc")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.M))
    for name, (registers, _, shared) in figures(said).items():
        *by_architecture, of_shared = rows[name].split("|")
        told = by_architecture[ARCHITECTURES.index(architecture)].strip()
        if told != "-":
            assert (told, of_shared.strip()) == (str(registers), f"{shared:,}")


def test_what_spills_would_be_seen():
    said = "".join(
        f"Compiling entry function '{name}'\nUsed 80 registers, 640 bytes smem\n"
        " 92 bytes spill stores, 60 bytes spill loads"
        for name in THREADS
    )
    assert set(figures(said).values()) == {(80, 152, 640)}
    with pytest.raises(AssertionError):
        assert_fits(said)
