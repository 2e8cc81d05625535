"""Kills `minigpt generate` at random moments, and looks at what is left and at the run after it.

python scripts/kill.py --times 200 --seed 0

Each time a phase is chosen and begins: start and load, packing, or generation, with a log and a
recording. Within it the process gets SIGKILL. Every line that it ended must be readable and be that
of a run that nobody disturbed; the next run must say the same, and leave no part of what was
killed. The exit status is 1 if something is wrong.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from minigpt.errors import InputError
from minigpt.recording.read import read

PHASES = ("load", "pack", "generate")
# As the command, but for small weights, which are else packed anew sooner than kept.
CODE = """
from minigpt.fast import store
store.SMALL = store.READ = 0
from minigpt.cli import main
main()
"""
ARGS = (
    *("generate", "To be, or not to be", "--dtype", "int8", "--seed", "1", "--ignore-eos"),
    *("--max-new-tokens", "20", "--quiet", "--log", "log", "--record", "run.jsonl"),
)


class Killed(NamedTuple):
    """What became of a run that was killed.

    Attributes:
        phase: it was to be killed in.
        alive: whether it had not ended before.
        lines: that it had ended, of its log and of its recording.
        cut: whether either ends within a line.
        wrong: what should not be, a line each.
    """

    phase: str
    alive: bool
    lines: int
    cut: bool
    wrong: list[str]


class Runs:
    """Runs in a folder, with a cache there.

    Args:
        folder: where they are; it has kernels and nothing else in its cache afterwards.
        ops: whether operations are recorded.
    """

    def __init__(self, folder: Path, ops: bool) -> None:
        self._folder, self._args = folder, [*ARGS, *(["--ops"] if ops else [])]
        self._packed = folder / "cache" / "minigpt" / "packed"
        self._run()  # the first one compiles
        log = self._forget(keep=True)
        begin = time.monotonic()
        process = self._start()
        while not log.exists():
            time.sleep(0.0005)
        loaded = time.monotonic()
        self._text = process.communicate()[0]
        # From where a phase begins: seconds in which it is killed.
        self._within = {"load": loaded - begin, "pack": 0.02, "generate": time.monotonic() - loaded}
        self._tokens = [line["token"] for line in _lines(log)[0]]

    def kill(self, phase: str, rng: random.Random) -> Killed:
        """Starts one, kills it in a phase, and looks; then lets one run to its end."""
        log = self._forget(keep=phase == "load" and rng.random() < 0.5)
        begun: dict[str, Callable[[], bool]] = {
            "load": lambda: True,
            "pack": lambda: self._packed.exists() and any(self._packed.iterdir()),
            "generate": lambda: log.exists() and log.stat().st_size > 0,
        }
        process = self._start()
        while process.poll() is None and not begun[phase]():
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, self._within[phase]))
        process.kill()
        process.communicate()
        lines, cut, wrong = self._left(log)
        if self._run() != self._text:
            wrong.append("the next run says something else")
        if rest := [part.name for part in self._packed.iterdir() if part.name.startswith(".")]:
            wrong.append(f"the next run leaves {rest}")
        return Killed(phase, process.returncode < 0, lines, cut, wrong)

    def _left(self, log: Path) -> tuple[int, bool, list[str]]:
        """Whole lines of log and recording, whether one is cut, and what is wrong with them."""
        wrong: list[str] = []
        count, cut = 0, False
        for file in (log, self._folder / "run.jsonl"):
            try:
                lines, partly = _lines(file)
            except ValueError as error:
                wrong.append(f"{file.name}: {error}")
                continue
            count, cut = count + len(lines), cut or partly
            tokens = [line["token"] for line in lines if line.get("type", "token") == "token"]
            if tokens != self._tokens[: len(tokens)]:
                wrong.append(f"{file.name}: {tokens} are not the tokens")
            if file is not log and lines:
                try:
                    found = read(file)
                except InputError as error:
                    wrong.append(str(error))
                else:
                    if [token["token"] for token in found.tokens] != tokens:
                        wrong.append(f"{file.name}: it is read as something else")
        return count, cut, wrong

    def _forget(self, keep: bool) -> Path:
        """Removes what the run before wrote, packed weights too unless they are kept."""
        for file in ("log", "run.jsonl"):
            (self._folder / file).unlink(missing_ok=True)
        if not keep:
            shutil.rmtree(self._packed)
        return self._folder / "log"

    def _start(self) -> "subprocess.Popen[bytes]":
        env = os.environ | {"XDG_CACHE_HOME": str(self._folder / "cache")}
        command = [sys.executable, "-c", CODE, *self._args]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self._folder, env=env, stdout=pipe, stderr=pipe)

    def _run(self) -> bytes:
        process = self._start()
        said, wrong = process.communicate()
        if process.returncode:
            raise RuntimeError(f"status {process.returncode}: {wrong.decode()}")
        return said


def _lines(file: Path) -> tuple[list[dict[str, Any]], bool]:
    """The objects of a file's whole lines, and whether a part of one follows; of no file none."""
    *whole, rest = file.read_bytes().split(b"\n") if file.exists() else [b""]
    return [json.loads(line) for line in whole], bool(rest)


def killed(times: int, seed: int) -> Iterator[Killed]:
    """So many runs that are killed, phase by phase in turn."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, name) for name in ("tokens", "operations")]
        for place in places:
            place.mkdir()
        runs = [Runs(place, place.name == "operations") for place in places[: min(times, 2)]]
        for number in range(times):
            yield rng.choice(runs).kill(PHASES[number % len(PHASES)], rng)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    found: dict[str, Counter[str]] = {phase: Counter() for phase in PHASES}
    for number, one in enumerate(killed(asked.times, asked.seed), start=1):
        row = found[one.phase]
        row.update(times=1, killed=one.alive, lines=one.lines, cut=one.cut, wrong=len(one.wrong))
        for line in one.wrong:
            print(f"{number}, {one.phase}: {line}")
    print("| killed in | times | before its end | whole lines | cut lines | wrong |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for phase, row in found.items():
        figures = [row[name] for name in ("times", "killed", "lines", "cut", "wrong")]
        print(f"| {phase} | {' | '.join(map(str, figures))} |")
    return int(any(row["wrong"] for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
