"""What one decode step runs, by kernel: jobs, tiles, bytes of weights, instructions and FLOP.

    python scripts/instructions.py           # prints it as JSON
    python scripts/instructions.py --renew   # writes it to tests/fast/instructions.json

No figure depends on the processor or on what else runs: kernels are compiled for AVX2 alone, and
each job of a recorded step is run whole, in one thread, stepped instruction by instruction.
"""

import argparse
import ctypes
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np

from counting import executed
from counting.machine.ran import COMPILED
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
    "gpt2 of a layer, int8, 8 together": (replace(GPT2, n_layer=1), "int8", 8),
    "llama bfloat16": (LLAMA, "bfloat16", 1),
}
PAST = 16  # tokens in the cache before the step

JOB = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)  # all of one
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

    def rows(self, count: bool) -> dict[str, Row]:
        """By kernel: its jobs, the tiles that threads would share, the bytes of their weights.

        Of the tables that tokens are looked up in no bytes: a few rows of them are read.

        Args:
            count: whether instructions and FLOP of its jobs are there too.
        """
        ends = [*self.tape[1:, 1].tolist(), address(self.tape.base) + self.tape.base.nbytes]
        found: dict[str, Row] = {}
        for name, (job, words, total, chunk), end in zip(
            self.kernels, self.tape.tolist(), ends, strict=True
        ):
            row = found.setdefault(name, dict.fromkeys(("jobs", "tiles", "weights"), 0))
            row["jobs"] += 1
            row["tiles"] += -(-total // chunk)
            if not name.startswith("gathered"):
                given = np.frombuffer(ctypes.string_at(words, end - words), np.int64).tolist()
                row["weights"] += sum(self.sizes.get(word, 0) for word in given)
            if count and name not in LIBRARY:
                _, ran = executed(JOB(job), words, 0, total)
                for what, n in (
                    ("instructions", ran.libraries[COMPILED]),
                    ("flops", ran.flops(COMPILED)),
                ):
                    row[what] = row.get(what, 0) + n
        return found


def figures(count: bool) -> dict[str, Any]:
    """The document: llvmlite's version, and the rows of each step.

    Args:
        count: whether jobs are stepped too, for their instructions and FLOP.
    """
    steps = {name: Step(*sizes) for name, sizes in STEPS.items()}
    rows = {name: step.rows(count) for name, step in steps.items()}
    return {"llvmlite": llvmlite.__version__, "steps": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--renew", action="store_true", help=f"write {KEPT.relative_to(ROOT)}")
    options = parser.parse_args()
    text = json.dumps(figures(count=True), indent=1) + "\n"
    if options.renew:
        KEPT.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
