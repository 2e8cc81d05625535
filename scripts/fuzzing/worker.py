"""The process that tries inputs of a kind and says, in a line each, how they ended."""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from minigpt.errors import InputError
from minigpt.storage.files import cache_folder

ALARM = 20  # seconds for an input, of the process's own: others may keep the machine busy
WAIT = 4 * ALARM  # seconds by the clock, for one that waits
MEMORY = 4 << 30  # bytes of addresses beyond those that there are before the first input
MUCH = 1 << 30  # bytes that no input of these sizes has a reason to take


class Hang(BaseException):
    """An input takes too long."""


def drawn(kind: str, seed: int, number: int) -> bytes:
    """An input: the same of the same seed and number."""
    from fuzzing.kinds import KINDS

    return KINDS[kind].draw(random.Random(f"{seed}/{kind}/{number}"))


def work(kind: str, seed: int, number: int, guided: bool, files: list[Path]) -> None:
    """Tries inputs, drawn ones without end or those in files, from a number on.

    What is said of each goes to standard output: {"began": number}, then {"ended": number, "grown":
    bytes of memory}, with "refused", "hang" or "fault". An input that failed, or ends this process,
    is left in the folder for temporary files, in a file `input-NUMBER`.

    Args:
        guided: inputs are not drawn: they grow by what code the ones before have reached.
    """
    told = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryDirectory() as place, open(f"{place}/stderr", "w+b") as beside:
        folder = Path(place, "files")
        folder.mkdir()
        _prepare(place)
        usual = os.dup(2)
        os.dup2(beside.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.excepthook = lambda *error: (os.dup2(usual, 2), sys.__excepthook__(*error))[1]
        if guided:
            from fuzzing import guided as by_coverage

            by_coverage.instrument()
        from fuzzing.kinds import KINDS
        from fuzzing.tiny import model, speak

        speak(model(folder))  # compiles what is compiled once
        _limit()

        def one(i: int, made: bytes) -> bool:
            """Tries an input. Gives whether its thread goes on, so that this process is done."""
            kept = Path(tempfile.gettempdir(), f"input-{i}")
            kept.write_bytes(made)
            print(json.dumps({"began": i}), file=told)
            os.ftruncate(beside.fileno(), 0)
            beside.seek(0)
            before = _peak(anew=True)
            ended = _tried(KINDS[kind], made, folder)
            if (grown := _peak() - before) > MUCH:
                ended = {"fault": f"took {grown / 2**30:.1f} GiB"} | ended
            beside.seek(0)
            lines = beside.read().decode(errors="replace").splitlines()
            if others := [line for line in lines if line and not line.startswith("minigpt: ")]:
                ended = {"fault": f"a library said: {others[0][:160]}"} | ended
            if not {"fault", "hang"} & ended.keys():
                kept.unlink()
            print(json.dumps({"ended": i, "grown": grown, **ended}), file=told)
            return ended.get("abandoned", False)

        if guided:
            by_coverage.grow(KINDS[kind], f"{seed}/{number}", number, one)
        for i, made in _inputs(kind, seed, number, files):
            if one(i, made):
                return


def _inputs(kind: str, seed: int, number: int, files: list[Path]) -> Iterator[tuple[int, bytes]]:
    if files:
        yield from ((i, file.read_bytes()) for i, file in enumerate(files) if i >= number)
    else:
        yield from ((i, drawn(kind, seed, i)) for i in count(number))


def _prepare(place: str) -> None:
    """Another cache, with the kernels of the usual one; no hub, no terminal."""
    if (usual := cache_folder()).is_dir():
        but = shutil.ignore_patterns("packed", "bench", "random")
        shutil.copytree(usual, f"{place}/cache/minigpt", ignore=but)
        os.chmod(f"{place}/cache", 0o700)
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        os.environ.pop(name, None)
    os.environ |= {"XDG_CACHE_HOME": f"{place}/cache", "HF_HUB_OFFLINE": "1"}
    os.environ |= {"HF_HOME": f"{place}/hf", "OPENBLAS_NUM_THREADS": "1"}


def _limit() -> None:
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))


def _peak(anew: bool = False) -> int:
    """The most bytes in memory so far, or from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    [line] = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024


def _tried(kind: Any, made: bytes, folder: Path) -> dict[str, Any]:
    from fuzzing.tiny import ABANDONED

    def ring(*_: Any) -> None:
        raise Hang

    signal.signal(signal.SIGPROF, ring)
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_PROF, ALARM)
    signal.alarm(WAIT)
    try:
        kind.run(made, folder)
    except InputError as error:
        return {"refused": True, "abandoned": ABANDONED in str(error)}
    except Hang:
        return {"hang": True}
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [f for f in frames if "/minigpt/" in f.filename or "/counting/" in f.filename]
        at = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
        return {"fault": f"{type(error).__name__}{at}: {str(error)[:160]}"}
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return {}


if __name__ == "__main__":
    kind, seed, number, guided, *files = sys.argv[1:]
    with suppress(BrokenPipeError):  # nobody hears it any more
        work(kind, int(seed), int(number), guided == "True", [Path(file) for file in files])
