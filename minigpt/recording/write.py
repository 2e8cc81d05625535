"""The writing of a recording: a line for the run, for each token, each operation, and the end."""

import platform
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import numpy as np

from counting import Counts, Ledger, observing
from counting.charge import Charge
from counting.counts import Tally
from counting.views import flops
from minigpt.checkpoint.tokenizer import TextStream
from minigpt.inference.generate import Step, encode
from minigpt.inference.load import LanguageModel
from minigpt.inference.sample import Sampling
from minigpt.planning.hardware import processor_name, threads
from minigpt.recording import VERSION
from minigpt.schema import SCHEMA
from minigpt.version import version

Line = dict[str, Any]
Write = Callable[[Line], None]


@contextmanager
def recording(
    write: Write,
    lm: LanguageModel,
    prompts: Sequence[str],
    sampling: Sampling,
    *,
    chat: bool = False,
    ops: bool = False,
) -> Iterator[Callable[..., None]]:
    """A `with` block in which a generation is recorded: yields what records a step of it.

    What is given beside a step, by name, stands in its line too.

    Lines are written as things happen; those of what each phase did when the block ends without an
    exception.

    Args:
        write: what writes a line.
        prompts, sampling, chat: of the generation, as `continuation` takes them.
        ops: write a line for each operation too. Composites and recorded steps then run open,
            operation by operation, so the times are those of the model's code as it is written.

    Raises:
        InputError: the prompts cannot be used.
    """
    began = perf_counter()
    live = lm.ledger.live_bytes
    write(_run(lm, prompts, sampling, chat) | {"ops": ops, "live_bytes": live})
    phases = {phase: Tally(lm.ledger.columns) for phase in ("cache", "prefill", "decode")}
    passes, tokens, position = 0, 0, None
    operations = Operations(lm.ledger, write, began)

    def record(step: Step, **more: Any) -> None:
        nonlocal passes, tokens, position, live
        if step.position != position:  # other sequences tell of the same pass
            passes, position = passes + 1, step.position
            if step.phase == "prefill":
                phases["cache"].add(step.reserving)
            phases[step.phase].add(step.counts)
        tokens, live = tokens + 1, step.live_bytes
        about = {"type": "token", "pass": passes - 1, "at": perf_counter() - began}
        if ops:
            about["freed"] = operations.freed()
        write(about | step.record() | more)
        operations.begin(passes)

    with observing(lm.ledger, operations) if ops else nullcontext():
        yield record
    for phase, tally in phases.items():
        for (path, operation), row in tally.counts().items():
            one = Counts(lm.ledger.columns, {(path, operation): row})
            said = {"path": path, "operation": operation, "calls": one.total("calls")}
            write({"type": "row", "phase": phase} | said | _amounts(one))
    memory = {"live_bytes": live, "peak_bytes": lm.ledger.peak_bytes}
    write({"type": "end", "tokens": tokens, "seconds": perf_counter() - began} | memory)


class Operations:
    """The observer that writes a line for each operation.

    Args:
        ledger: that they are recorded in.
        began: when the run did, by `perf_counter`.
    """

    def __init__(self, ledger: Ledger, write: Write, began: float) -> None:
        self._columns = ledger.columns
        self._write, self._began = write, began
        self._number, self._freed = 0, list[int]()
        self.begin(None)

    def begin(self, number: int | None) -> None:
        """A pass begins: what was done since the last operation is no part of it."""
        self._pass, self._last = number, perf_counter()

    def freed(self) -> list[int]:
        """The operations whose arrays were given back since somebody asked last."""
        found = self._freed[:]
        del self._freed[: len(found)]
        return found

    def __call__(self, path: str, charge: Charge, operands: tuple[Any, ...], result: Any) -> None:
        now = perf_counter()
        if path and self._pass is None:  # what came before made the cache
            self._pass = 0
        self._number += 1
        about = operands[0] if result is None else result
        owns = result is not None and result.base is None
        line: Line = {
            "type": "operation",
            "number": self._number,
            "pass": self._pass,
            "path": path,
            "operation": charge.operation,
            "shape": about.shape,
            "dtype": str(about.dtype),
            "category": about.spec.category,
            "bytes": about.spec.nbytes if owns else 0,
            "start": self._last - self._began,
            "seconds": now - self._last,
            "freed": self.freed(),
        }
        if line["bytes"]:
            weakref.finalize(result, self._freed.append, self._number).atexit = False
        self._write(line | _amounts(self._counts(path, charge)))
        self._last = perf_counter()

    def _counts(self, path: str, charge: Charge) -> Counts:
        amounts = dict(charge.amounts)
        row = tuple(amounts.get(i, 0) for i in range(len(self._columns)))
        return Counts(self._columns, {(path, charge.operation): row})


def _amounts(counts: Counts) -> Line:
    """Operations and bytes as fields of a line; of categories those alone that moved any."""
    read, written = (
        {name: n for name, n in moved.items() if n}
        for moved in (counts.bytes_read, counts.bytes_written)
    )
    return {
        "flops": flops(counts),
        "kinds": dict(counts.cost),
        "dots": counts.total("dots"),
        "bytes_read": read,
        "bytes_written": written,
    }


def _run(lm: LanguageModel, prompts: Sequence[str], sampling: Sampling, chat: bool) -> Line:
    """The first line: what runs, on what, and how it can be had again."""
    rows = encode(lm, prompts, chat).tolist()
    return {
        "type": "run",
        "recording": VERSION,
        "schema": SCHEMA,
        "minigpt": version(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": lm.name,
        "config": lm.config.values(),
        "parameters": lm.config.parameters,
        "dtype": lm.dtype,
        "device": lm.device.name,
        "machine": {
            "processor": processor_name(),
            "cores": threads(),
            "system": platform.system(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        **{key: value for key, value in asdict(sampling).items() if key != "max_new_tokens"},
        "chat": chat,
        "max_new_tokens": sampling.max_new_tokens,
        "context": len(rows[0]) + sampling.max_new_tokens - 1,
        "prompts": [
            {"text": text, "tokens": row, "pieces": _pieces(lm, row)}
            for text, row in zip(prompts, rows, strict=True)
        ],
    }


def _pieces(lm: LanguageModel, tokens: list[int]) -> list[str]:
    """The text of each token of a prompt; "" while later ones may change it."""
    stream = TextStream(lm.tokenizer, [])
    pieces = [stream.add(token) for token in tokens]
    return [*pieces[:-1], pieces[-1] + stream.end()]
