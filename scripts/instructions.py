"""What one decode step runs, by kernel: jobs, tiles, bytes of weights, and instructions.

    python scripts/instructions.py           # prints it as JSON
    python scripts/instructions.py --renew   # writes it to tests/fast/instructions.json

No figure depends on the processor or on what else runs: kernels are compiled for AVX2 alone, one
thread runs them, and valgrind's callgrind counts the instructions of each job of a recorded step.
"""

import argparse
import ctypes
import json
import mmap
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np

from minigpt.fast.kernels.llvm import Target
from minigpt.fast.kernels.machine import Machine, address
from minigpt.fast.packed import PackedMatrix, narrowed
from minigpt.fast.replay import Replayed
from minigpt.models.architectures import build
from minigpt.models.families.llama import llama
from minigpt.models.gpt2_config import GPT2Config

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "fast" / "instructions.json"
FEATURES = "sse4.2", "popcnt", "avx", "avx2", "bmi", "bmi2", "fma", "f16c"
LLAMA = llama(
    vocab_size=256,
    hidden_size=128,
    intermediate_size=192,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
GPT2 = GPT2Config(256, 64, 128, 2, 4)
STEPS = {  # by name: the model, its dtype, how many sequences
    "gpt2 float32": (GPT2, "float32", 1),
    "gpt2 bfloat16": (GPT2, "bfloat16", 1),
    "gpt2 int8": (GPT2, "int8", 1),
    "gpt2 int8, 8 together": (GPT2, "int8", 8),
    "llama bfloat16": (LLAMA, "bfloat16", 1),
}
PAST = 16  # tokens in the cache before the step

# A client request of valgrind as a job: `begin` and `end` go unheeded, `words` are what it asks.
# mov rax, rdi; xor edx, edx; rol rdi, 3; rol rdi, 13; rol rdi, 61; rol rdi, 51; xchg rbx, rbx; ret
REQUEST = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db c3")
ZERO, DUMP, START, STOP = (0x43540000 + n for n in (1, 3, 4, 5))  # to callgrind; a dump has a name
LIBRARY = "cos", "sin"  # kernels that spend their instructions in the C library

Row = dict[str, int]  # of a kernel


class Watched:
    """A pool that also keeps the tape that it replayed last."""

    def __init__(self, pool: Any) -> None:
        self._pool, self.tape = pool, np.empty((0, 4), np.int64)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def replay(self, tape: np.ndarray) -> None:
        self.tape = tape
        self._pool.replay(tape)


class Step:
    """A decode step, recorded for AVX2 and one thread, and run once.

    Attributes:
        tape: its jobs, as `Pool.replay` takes them.
        kernels: the name of each job's kernel.
    """

    def __init__(self, config: Any, dtype: str, batch: int) -> None:
        self.machine = Machine(Target(FEATURES), cores=1)
        self.machine.pool = watched = Watched(self.machine.pool)
        self.sizes: dict[int, int] = {}  # bytes of weights by address
        weights = {key: self._weight(config, key, dtype) for key in config.shapes()}
        self.model = Replayed(build(config, weights), weights, self.machine)
        self.cache = self.model.model.new_cache(batch, 2 * PAST)
        for n in (PAST, 1):
            self.model(np.ones((batch, n), np.int64), self.cache)
        self.tape = watched.tape
        self.kernels = [self.machine.kernel(job) for job in self.tape[:, 0].tolist()]

    def _weight(self, config: Any, key: str, dtype: str) -> Any:
        shape = config.shapes()[key]
        numbers = np.random.default_rng(len(self.sizes)).standard_normal(shape, np.float32) / 16
        way = config.layout(key, len(shape))
        if not way:
            self.sizes[address(numbers)] = numbers.nbytes
            return numbers
        parts = narrowed(np.ascontiguousarray(numbers.T if way == "columns" else numbers), dtype)
        self.sizes |= {address(part): part.nbytes for part in parts if part is not None}
        return PackedMatrix(*parts, way == "columns", self.machine)

    def rows(self) -> dict[str, Row]:
        """By kernel: its jobs, the tiles that threads would share, the bytes of their weights.

        Of the tables that tokens are looked up in no bytes: a few rows of them are read.
        """
        ends = [*self.tape[1:, 1].tolist(), address(self.tape.base) + self.tape.base.nbytes]
        found: dict[str, Row] = {}
        for name, (_, words, total, chunk), end in zip(
            self.kernels, self.tape.tolist(), ends, strict=True
        ):
            row = found.setdefault(name, dict.fromkeys(("jobs", "tiles", "weights"), 0))
            row["jobs"] += 1
            row["tiles"] += -(-total // chunk)
            if not name.startswith("gathered"):
                given = np.frombuffer(ctypes.string_at(words, end - words), np.int64).tolist()
                row["weights"] += sum(self.sizes.get(word, 0) for word in given)
        return found


def under_valgrind() -> None:
    """Runs the jobs of all steps one by one, a dump of callgrind's counters after each."""
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(REQUEST)
    where, kept = ctypes.addressof(ctypes.c_char.from_buffer(code)), []

    def asks(request: int, name: str = "") -> list[int]:
        text = ctypes.create_string_buffer(name.encode())
        words = np.array([request, ctypes.addressof(text), 0, 0, 0, 0], np.int64)
        kept.append((text, words))
        return [where, address(words), 1, 1]

    for name, sizes in STEPS.items():
        step = Step(*sizes)
        step.machine.pool.replay(np.array([asks(START)]))
        for kernel, job in zip(step.kernels, step.tape.tolist(), strict=True):
            step.machine.pool.replay(np.array([asks(ZERO), job, asks(DUMP, f"{name}/{kernel}")]))
        step.machine.pool.replay(np.array([asks(STOP)]))


def counted() -> Counter[str]:
    """Instructions by "step/kernel", from a run of `under_valgrind`.

    Raises:
        CalledProcessError: it failed.
    """
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        command += [f"--callgrind-out-file={folder}/out", sys.executable, __file__, "--child"]
        subprocess.run(command, check=True, capture_output=True)
        for file in Path(folder).iterdir():
            text = file.read_text()
            if named := re.search(r"^desc: Trigger: Client Request: (.+)$", text, re.M):
                found[named[1]] += int(re.search(r"^(?:summary|totals): (\d+)", text, re.M)[1])
    return found


def figures(count: bool) -> dict[str, Any]:
    """The document: llvmlite's version, and the rows of each step; instructions too if asked."""
    steps = {name: Step(*sizes).rows() for name, sizes in STEPS.items()}  # compiles for the others
    for at, number in (counted() if count else {}).items():
        step, _, kernel = at.rpartition("/")
        if kernel not in LIBRARY:
            steps[step][kernel]["instructions"] = number
    return {"llvmlite": llvmlite.__version__, "steps": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--renew", action="store_true", help=f"write {KEPT.relative_to(ROOT)}")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return under_valgrind()
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed")
    text = json.dumps(figures(count=True), indent=1) + "\n"
    if options.renew:
        KEPT.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
