"""What machine this is."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

import cupy

from gpu_visit.stages import Result
from gpu_visit.visit import Visit

ASKED = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.limit,memory.total"
TOOLS = {
    "driver, clocks": ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"],
    "nvcc": ["nvcc", "--version"],
    "ncu": ["ncu", "--version"],
    "compute-sanitizer": ["compute-sanitizer", "--version"],
}


def environment(visit: Visit) -> Iterator[Result]:
    """The GPU, versions and tools; whether the model fits."""
    visit.require()
    versions = {"Python": platform.python_version()} | {name: _version(name) for name in PACKAGES}
    runtime = cupy.cuda.runtime
    versions["CuPy"] = cupy.__version__
    versions["CUDA of CuPy"] = str(runtime.runtimeGetVersion())
    versions["CUDA of the driver"] = str(runtime.driverGetVersion())
    tools = {name: _said(command) for name, command in TOOLS.items()}
    device = visit.device
    properties = runtime.getDeviceProperties(cupy.cuda.get_device_id())
    processors = properties["multiProcessorCount"]
    rows = [
        ("GPU", device.name, f"capability {device.capability / 10}, {processors} multiprocessors"),
        ("versions", ", ".join(f"{name} {of}" for name, of in versions.items()), ""),
        *((name, said, "") for name, said in tools.items()),
    ]
    yield {
        "gpu": device.name,
        "capability": device.capability / 10,
        "multiprocessors": processors,
        "l2_bytes": properties["l2CacheSize"],
        "free_bytes": device.free(),
        "versions": versions,
        "tools": tools,
        "rows": rows,
    }


PACKAGES = ("numpy", "torch", "transformers")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _said(command: list[str]) -> str:
    """The last line that a tool prints, or that there is none of it."""
    if not shutil.which(command[0]):
        return "missing"
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    return ((done.stdout or done.stderr).strip().splitlines() or ["silent"])[-1]
