"""The stages of a visit, by worth; each runs in a process of its own and writes its file itself."""

import faulthandler
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from minigpt.errors import InputError

if TYPE_CHECKING:  # it imports CuPy
    from gpu_visit.visit import Visit

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("scripts", "minigpt", "counting")  # of the checkout, where a fault may be ours
Row = tuple[str, str, str]  # what was measured, what came out, what stands beside it
Result = dict[str, Any]  # of a stage: "rows", and whatever it found


class Stage(NamedTuple):
    """A generator of results, named as the stage, in a module beside this one.

    Attributes:
        seconds: that it should take for GPT-2 XL on an H100. It may take three times as many.
        what: it runs.
        peers: whether others run in the same process, transformers and the fast step; without
            them, where it breaks with them.
    """

    module: str
    seconds: int
    what: str
    peers: bool = False


STAGES = {
    "environment": Stage("environment", 10, "names the GPU and the versions; asks what is free"),
    "ceilings": Stage(
        "ceilings", 15, "bytes a second read, copied, from pinned memory; a float16 product"
    ),
    "barriers": Stage("ceilings", 10, "243 empty barriers of one launch, and 243 empty launches"),
    "alone": Stage("alone", 20, "each job of the fast step, launched alone, against NumPy"),
    "jobs": Stage("fast", 30, "the fast step: each layer against the code, each phase alone"),
    "correctness": Stage(
        "truth", 90, "float32 and float16 against NumPy at 3 positions; greedy tokens", True
    ),
    "counted": Stage("truth", 15, "FLOP of a prefill and a step against a run on shapes"),
    "memory": Stage("truth", 10, "ledger, pool and driver; what operations hide"),
    "decode": Stage("speed", 60, "tokens a second at 1, half and all keys, in turn", True),
    "prefill": Stage("speed", 40, "half a context at once", True),
    "compiled": Stage("speed", 75, "decode steps beside transformers, compiled"),
    "operations": Stage("speed", 20, "seconds of each operation of a step and of a prefill"),
    "calls": Stage("ceilings", 10, "what a call costs on the host and on the device"),
    "ring": Stage("ring", 5, "arrays passed on by NCCL between all GPUs here, or by one to itself"),
    "counters": Stage("counters", 90, "FLOP and DRAM bytes by Nsight Compute, 4 layers"),
    "sanitizer": Stage("sanitizer", 40, "compute-sanitizer on a step of a tiny model"),
}


def run(name: str, visit: "Visit", file: Path) -> bool:
    """Runs a stage here and writes what it finds as it comes; whether it came to its end."""
    began, found = time.monotonic(), Result(rows=[])
    try:
        stage = getattr(import_module(f"gpu_visit.{STAGES[name].module}"), name)
        for part in stage(visit):
            found |= {**part, "rows": found["rows"] + part["rows"]}
            write(file, found)
    except InputError:
        raise
    except Exception as error:
        found["error"] = fault(error)
    write(file, {**found, "stage_s": round(time.monotonic() - began, 2)})
    return "error" not in found


def write(file: Path, value: Any) -> None:
    """A whole file of JSON, or none: a process may end at any time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(f"{json.dumps(plain(value), indent=1, allow_nan=False)}\n", encoding="utf-8")
    part.replace(file)


def plain(value: Any) -> Any:
    """A value in JSON: arrays as lists; what is not finite, or nothing that JSON has, by name."""
    if isinstance(value, dict):
        return {str(key): plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [plain(x) for x in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    known = value is None or isinstance(value, str | int | float)
    return value if known else repr(value)


def fault(error: BaseException) -> str:
    """In one line: what was raised, and the last line of this checkout on the way there."""
    lines = str(error).strip().splitlines() or [""]
    said = next((line for line in lines if re.search(r"\berror\b", line)), lines[0]).strip()
    ours = [f for f in traceback.extract_tb(error.__traceback__) if _ours(f.filename)]
    where = f" [{_place(ours[-1].filename, ours[-1].lineno)}: {ours[-1].line}]" if ours else ""
    return f"{type(error).__name__}: {said}{where}"


def launch(
    name: str, options: list[str], file: Path, limit: float, blocking: bool = False
) -> Result:
    """Runs a stage in a process of its own for at most `limit` seconds; what it found.

    With `blocking` each launch of a kernel waits for its end, so that an error is of that line.

    Raises:
        InputError: it cannot run here at all.
    """
    file.unlink(missing_ok=True)
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), "--only", name, *options]
    with tempfile.TemporaryFile("w+") as said:
        status = _finished(command, said, limit, blocking)
        said.seek(0)
        text = said.read().strip()
    if status == 2 and text:
        raise InputError(text.splitlines()[-1].removeprefix("gpu_check: "))
    found: Result = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"rows": []}
    if status not in (0, 1) or not file.exists():
        how = f"ran past {limit:.0f} s" if status is None else f"ended with status {status}"
        found["error"] = f"{how}{_last_words(text)}"
        write(file, found)
    return found


def _finished(command: list[str], said: IO[str], limit: float, blocking: bool) -> int | None:
    """The status of a command in a group of its own; None if it had to be ended."""
    process = subprocess.Popen(
        command,
        stdout=said,
        stderr=said,
        stdin=subprocess.DEVNULL,
        env=os.environ | ({"CUDA_LAUNCH_BLOCKING": "1"} if blocking else {}),
        start_new_session=True,
    )
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)  # Python says where it is, see `tell_where`
        with suppress(subprocess.TimeoutExpired):  # it may be in the driver
            process.wait(5)
        return None
    finally:
        with suppress(ProcessLookupError):  # all of it has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def tell_where() -> None:
    """Makes this process print its stack where a signal ends it."""
    faulthandler.enable(all_threads=False)


def _last_words(text: str) -> str:
    """Where a stack that `tell_where` printed was in this checkout, or the last line of all."""
    stack = re.findall(r'File "(.+)", line (\d+) in ', text)
    ours = next(((file, int(line)) for file, line in stack if _ours(file)), None)
    if ours:
        return f" [{_place(*ours)}]"
    return f": {text.splitlines()[-1]}" if text else ""


def _ours(file: str) -> bool:
    return any(Path(file).is_relative_to(ROOT / part) for part in PARTS)


def _place(file: str, line: int | None) -> str:
    return f"{Path(file).relative_to(ROOT)}:{line}"


def tried(what: str, run: Callable[[], Any]) -> tuple[Any, list[Row]]:
    """What a part by others gives; None and a row that says why, where it breaks."""
    try:
        return run(), []
    except Exception as error:
        return None, [(what, "FAILED", fault(error))]
