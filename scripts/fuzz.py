"""Gives the program what a stranger could: mutated files, command lines, arguments.

    python scripts/fuzz.py --minutes 10 [--kind config] [--seed 7]
    python scripts/fuzz.py --minutes 10 --guided  # grown by what they reach: pip install atheris
    python scripts/fuzz.py found/config-7-123     # again

Each kind runs in a process of its own, of limited memory, 20 seconds of its time for an input, 80
by the clock. What fails is printed and written to a folder, as KIND-SEED-NUMBER; a table says how
many were tried. Exit status 1 if anything failed.
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
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from fuzzing import BYTES, NAMES

from minigpt.commands.signals import ending

SCRIPTS = Path(__file__).parent
GRACE = 100  # seconds after which a process that has an alarm at 80 hears none
START = 300  # seconds for a process to begin


@dataclass
class Trial:
    """Inputs of a kind, and what became of them.

    Attributes:
        guided: whether inputs grow by what code they reach; else each is drawn for itself.
        files: that are tried in place of drawn ones.
        found: folder for what fails.
        faults: the numbers of those that failed, by what happened.
    """

    kind: str
    seed: int
    seconds: float
    most: int | None
    guided: bool
    files: list[Path]
    found: Path
    tried: int = 0
    refused: int = 0
    hangs: int = 0
    memory: int = 0
    faults: dict[str, list[int]] = field(default_factory=dict)
    until: float | None = None  # the end, once the first has begun

    def run(self) -> None:
        """Has inputs tried; starts anew after one that kills, or hears no alarm."""
        number: int | None = 0
        while number is not None:
            words = [self.kind, self.seed, number, self.guided, *self.files]
            path = os.pathsep.join([str(SCRIPTS), str(SCRIPTS.parent), *sys.path[1:]])
            with tempfile.TemporaryDirectory() as place:  # which outlives a worker that is killed
                worker = subprocess.Popen(
                    [sys.executable, "-m", "fuzzing.worker", *map(str, words)],
                    stdout=subprocess.PIPE,
                    env={**os.environ, "PYTHONPATH": path, "TMPDIR": place},
                )
                try:
                    number = self._listen(worker, Path(place))
                finally:
                    worker.kill()  # it goes on, where this has enough
                    worker.wait()

    def _listen(self, worker: Any, place: Path) -> int | None:
        """Hears what a process says. Gives the number to go on with, None at the end.

        Args:
            place: the folder in which it leaves an input that failed, as `input-NUMBER`.
        """
        lines: SimpleQueue[bytes] = SimpleQueue()

        def hear() -> None:
            for line in worker.stdout:
                lines.put(line)
            lines.put(b"")

        Thread(target=hear, daemon=True).start()
        number, trying = None, False
        while True:
            try:
                line = lines.get(timeout=START if number is None else GRACE)
                if not line:  # it ends; a thread that it left behind may hold it up a little
                    status = worker.wait(GRACE)
            except (Empty, subprocess.TimeoutExpired):
                line, status = b"", "hang"
            if number is None and not line:
                why = f"a process ended before its first input, or took {START} seconds to it"
                raise SystemExit(f"{self.kind}: {why}; {self.tried:,} were tried before")
            if not line:
                if trying:
                    fault = status if status == "hang" else f"ended with status {status}"
                    self._count(number, place, fault)
                return None if self._over() else number + 1
            said = json.loads(line)
            trying = "began" in said
            if trying:
                number = said["began"]
                self.until = self.until or time.monotonic() + self.seconds
                continue
            self.refused += "refused" in said
            self.memory = max(self.memory, said["grown"])
            fault = said.get("fault") or ("hang" if "hang" in said else "")
            self._count(said["ended"], place, fault)
            if self._over():
                return None

    def _over(self) -> bool:
        enough = self.tried >= (len(self.files) or self.most or sys.maxsize)
        return enough or (not self.files and time.monotonic() > (self.until or sys.maxsize))

    def _count(self, number: int, place: Path, fault: str) -> None:
        """Counts an input; notes what failed, and keeps the first that failed so."""
        self.tried += 1
        self.hangs += fault == "hang"
        if not fault:
            return
        numbers = self.faults.setdefault(fault, [])
        numbers.append(number)
        if len(numbers) == 1:
            what = self.files[number].name if self.files else f"{self.kind}-{self.seed}-{number}"
            print(f"{what}: {fault}", file=sys.stderr)
            if not self.files:
                self.found.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(place / f"input-{number}", self.found / what)

    def row(self) -> str:
        faults = sum(map(len, self.faults.values())) - self.hangs
        row = f"{self.kind:12}{self.tried:9,}{self.refused:9,}{faults:12,}{self.hangs:7,}"
        return f"{row}{self.memory / 2**20:8,.0f}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path, help="inputs to try again, KIND-…")
    parser.add_argument("--minutes", type=float, default=1, help="for all kinds together")
    parser.add_argument("--inputs", type=int, help="of each kind, at most")
    parser.add_argument("--kind", choices=NAMES, action="append", help="(repeatable)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--guided", action="store_true", help="by what code they reach: atheris")
    parser.add_argument("--found", type=Path, default=Path("found"), help="folder for what fails")
    args = parser.parse_args()
    files: dict[str, list[Path]] = {}
    for file in args.files:
        files.setdefault(file.name.partition("-")[0], []).append(file.absolute())
    if missing := [file for file in args.files if not file.is_file()]:
        parser.error(f"{missing[0]}: no such file")
    if files.keys() - {*NAMES}:
        parser.error(f"a file's name begins with its kind, one of {', '.join(NAMES)}")
    if args.guided and not find_spec("atheris"):
        parser.error("--guided asks for atheris, which is not installed: pip install atheris")
    kinds = [*files] or args.kind or (BYTES if args.guided else NAMES)
    if args.guided and (files or not {*kinds} <= {*BYTES}):
        parser.error(f"--guided tries no files, and kinds of {', '.join(BYTES)}")
    if not files:
        print(f"seed {args.seed}")
    print(f"{'kind':12}{'inputs':>9}{'refused':>9}{'tracebacks':>12}{'hangs':>7}{'MiB':>8}")
    failed = False
    for kind in kinds:
        seconds = 60 * args.minutes / len(kinds)
        how = args.inputs, args.guided, files.get(kind, []), args.found
        trial = Trial(kind, args.seed, seconds, *how)
        try:
            with ending():  # no process is left behind
                trial.run()
        except KeyboardInterrupt:
            return 130
        finally:
            print(trial.row(), flush=True)  # of those so far, where it is ended
        failed |= bool(trial.faults)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
