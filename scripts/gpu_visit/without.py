"""What can be said and checked of a visit where there is no GPU."""

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from gpu_visit.stages import PARTS, ROOT, STAGES

PACKAGES = ("cupy-cuda13x", "numpy", "torch", "transformers", "llvmlite", "typer", "rich", "sympy")
TOOLS = ("nvidia-smi", "nvcc", "ncu", "compute-sanitizer")
ARCHITECTURE = "90"  # of the GPUs that visits are made to: H100, H200
KERNELS = Path(__file__).with_name("kernels.cu")
NVRTC = """
import sys
from cupy.cuda import nvrtc
program = nvrtc.createProgram(open(sys.argv[1]).read(), "kernels.cu", [], [])
try:
    nvrtc.compileProgram(program, ["-std=c++17", "-arch=sm_" + sys.argv[2]])
except nvrtc.NVRTCError:
    sys.exit(nvrtc.getProgramLog(program))
print("NVRTC", *nvrtc.getVersion())
"""


def checked(model: str) -> bool:
    """Prints what a visit would run, and what of it stands here; whether it found no fault."""
    print(f"A visit with {model}, {sum(stage.seconds for stage in STAGES.values())} s on an H100:")
    for name, stage in STAGES.items():
        print(f"  {name:12} {stage.seconds:3} s  {stage.what}")
    print("\nHere:")
    for package in PACKAGES:
        print(f"  {package:20} {_version(package)}")
    for tool in TOOLS:
        print(f"  {tool:20} {shutil.which(tool) or 'missing'}")
    results = [_line(*check) for check in (_source(), _modules(), _by_nvcc(), _by_nvrtc())]
    print(flush=True)
    return all(results)


def _line(what: str, fault: str | None, said: str) -> bool:
    """Prints what a check found; whether it found no fault."""
    print(f"  {what:20} {f'FAILED: {fault}' if fault else said}")
    return not fault


def _source() -> tuple[str, str | None, str]:
    """Whether this Python can read every file."""
    files = [f for part in PARTS for f in (ROOT / part).rglob("*.py")]
    for file in files:
        try:
            compile(file.read_bytes(), str(file), "exec")
        except SyntaxError as error:
            return "source", f"{file.relative_to(ROOT)}:{error.lineno}: {error.msg}", ""
    return "source", None, f"{len(files)} files compile in Python {sys.version.split()[0]}"


def _modules() -> tuple[str, str | None, str]:
    """Whether all that the stages import is there, with CuPy itself."""
    if not find_spec("cupy"):
        return "modules", None, "not imported: CuPy is missing"
    names = sorted({f"gpu_visit.{stage.module}" for stage in STAGES.values()})
    if find_spec("minigpt.fast.cuda"):
        names += ["minigpt.fast.cuda.launch", "minigpt.fast.cuda.step"]
    done = _python(f"import {', '.join(names)}")
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if "Failure finding" in said or "libcublas" in said:
        return "modules", None, f"not imported: {said}"
    return "modules", said if done.returncode else None, f"{len(names)} are imported beside CuPy"


def _by_nvcc() -> tuple[str, str | None, str]:
    if not shutil.which("nvcc"):
        return "kernels by nvcc", None, "not compiled: nvcc is missing"
    with tempfile.TemporaryDirectory() as folder:
        files = _sources(Path(folder))
        for file in files:
            command = ["nvcc", "-std=c++17", f"-arch=sm_{ARCHITECTURE}", "-cubin", "-o"]
            done = subprocess.run(
                [*command, file.with_suffix(".cubin"), file], capture_output=True, text=True
            )
            if done.returncode:
                return "kernels by nvcc", _error(done), ""
    return "kernels by nvcc", None, f"{len(files)} files compiled for sm_{ARCHITECTURE}"


def _by_nvrtc() -> tuple[str, str | None, str]:
    if not find_spec("cupy"):
        return "kernels by NVRTC", None, "not compiled: CuPy is missing"
    with tempfile.TemporaryDirectory() as folder:
        files = _sources(Path(folder))
        for file in files:
            done = _python(NVRTC, str(file), ARCHITECTURE)
            if "Failure finding" in done.stderr or "cannot open shared" in done.stderr:
                return "kernels by NVRTC", None, "not compiled: NVRTC is missing"
            if done.returncode:
                return "kernels by NVRTC", _error(done), ""
    return "kernels by NVRTC", None, f"{len(files)} files compiled for sm_{ARCHITECTURE}"


def _sources(folder: Path) -> list[Path]:
    """Everything that a visit compiles, each in a file of its own."""
    texts = {"visit": KERNELS.read_text(encoding="utf-8")}
    if find_spec("minigpt.fast.cuda"):
        from minigpt.fast.cuda.source import source

        texts["fast"] = source()
    for name, text in texts.items():
        (folder / f"{name}.cu").write_text(text, encoding="utf-8")
    return [folder / f"{name}.cu" for name in texts]


def _error(done: "subprocess.CompletedProcess[str]") -> str:
    """The first line of a compiler that failed that tells of an error."""
    lines = (done.stdout + done.stderr).splitlines() or ["it is silent"]
    return next((line for line in lines if "error" in line), lines[-1])


def _python(code: str, *args: str) -> "subprocess.CompletedProcess[str]":
    """A program of this Python in a process of its own, with the checkout on its path."""
    paths = f"import sys; sys.path[:0] = {[str(ROOT / 'scripts'), str(ROOT)]}\n"
    command = [sys.executable, "-c", paths + code, *args]
    return subprocess.run(command, capture_output=True, text=True)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"
