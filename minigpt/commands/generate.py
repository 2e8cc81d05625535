"""The `generate` command: text on standard output; status, tables and errors on standard error."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import sleep
from typing import Any

from rich.console import Group
from rich.filesize import decimal

from counting import table
from counting.table import si
from counting.views import flops, matmul
from minigpt import fast
from minigpt.commands.allocator import witnessing
from minigpt.commands.log import STDOUT, open_lines
from minigpt.commands.options import ModelOptions
from minigpt.commands.signals import finishing
from minigpt.commands.terminal import FEWEST, LiveText, can_show, console, has_room, progress
from minigpt.commands.times import Times
from minigpt.errors import InputError, without_effect
from minigpt.inference.device import witness
from minigpt.inference.generate import EMPTY, Step, continuation, figures
from minigpt.inference.load import LanguageModel, load
from minigpt.inference.rank import of_rank
from minigpt.inference.sample import Sampling
from minigpt.models.config import Config
from minigpt.models.paths import component
from minigpt.notes import saying
from minigpt.parallel.communicators import MPI
from minigpt.recording.write import recording
from minigpt.schema import SCHEMA


@dataclass(frozen=True)
class Output:
    """What is told of a generation: the options of `minigpt generate` that are called so.

    Attributes:
        silent: nothing at all, for another process speaks.

    Raises:
        InputError: one would do nothing beside another.
    """

    log: Path | None = None
    record: Path | None = None
    ops: bool = False
    json: bool = False
    quiet: bool = False
    trace_allocator: bool = False
    live: bool = False
    silent: bool = False

    def __post_init__(self) -> None:
        trace = {"--trace-allocator": self.trace_allocator}
        printed = {"--log -": self.log == STDOUT, "--record -": self.record == STDOUT}
        printed["--json"] = self.json
        if self.ops and not self.record:
            raise InputError("--ops adds operations to a recording: give --record FILE too")
        if self.json:
            without_effect({"--quiet": self.quiet} | trace, "--json")
        if sum(printed.values()) > 1:
            both = " and ".join(option for option, yes in printed.items() if yes)
            raise InputError(f"{both} print on standard output: leave all but one out")
        elif self.log and self.record and self.log.resolve() == self.record.resolve():
            raise InputError(f"{self.log} cannot be both the log and the recording: choose another")
        if self.quiet:
            without_effect(trace, "--quiet")
        for option, given in (printed | {"--quiet": self.quiet}).items():
            if given:
                without_effect({"--live": self.live}, option)

    @property
    def text(self) -> bool:
        """Whether standard output has the text."""
        return not (self.silent or self.json or STDOUT in (self.log, self.record))

    @property
    def tables(self) -> bool:
        """Whether standard error tells what it cost."""
        return not (self.silent or self.quiet or self.json)


def run(
    prompts: Sequence[str],
    options: ModelOptions,
    sampling: Sampling,
    output: Output,
    chat: bool = False,
    ring: MPI | None = None,
) -> int:
    """Generates, shows and logs; gives the exit status, 0 or that of the signal that ended it.

    Args:
        chat: the prompts are messages, and their answers alone are shown.
        ring: of processes that share the model, and do all this at once.
    """
    times = Times()
    everyone = ring.everyone if ring else lambda value: [value]
    prompts = everyone([_read_prompt(prompt) for prompt in prompts])[0]
    if not prompts:
        raise InputError("the prompt is empty: give a text to continue, or - to read one")
    if "" in prompts:
        raise InputError(EMPTY)
    seeded = everyone(sampling.seeded())[0]
    with witness(options.device) if output.trace_allocator else nullcontext() as allocations:
        with saying(output.tables), progress(f"loading {options.model}", output.tables) as report:
            lm = load(**options._asdict(), ring=ring, progress=report)
        times.loaded()
        errors = console(stderr=True)
        if options.device == "cpu" and output.tables and not ring and (advice := fast.missing()):
            errors.print(f"NumPy multiplies: {advice}")
        steps = continuation(
            lm, prompts, seeded, chat
        )  # what is refused is so before a log is opened
        texts = ["" for _ in prompts] if chat else list(prompts)
        tokens = [list[int]() for _ in prompts]
        last: Step | None = None
        real: dict[str, int] | None = None
        ranks: dict[str, list[Any]] = {}
        with (
            witnessing(lm, allocations) as witnessed,
            open_lines(output.log, "log", lm) as write,
            _recording(lm, prompts, seeded, output, chat) as record,
            _stream(texts, sampling.max_new_tokens, output, lm.config) as show,
            finishing() as stopped,
            suppress(*([] if ring else [KeyboardInterrupt])),  # one alone cannot end in peace
        ):
            for last in steps:
                if ring:
                    mine = of_rank(last.counts, last.live_bytes, last.peak_bytes)
                    ranks = {"ranks": everyone(mine)}
                write(last.record() | ranks)
                record(last, **ranks)
                texts[last.sequence] += last.text
                tokens[last.sequence].append(last.token)
                times.add(last)
                real = witnessed.look() if witnessed else None
                try:
                    show(last)
                except OSError:  # a terminal that goes refuses text before it sends SIGHUP
                    sleep(0.1)
                    if not stopped():
                        raise
                if any(everyone(stopped())):
                    break
        if ring:
            mine = of_rank(lm.ledger.snapshot(), lm.ledger.live_bytes, lm.ledger.peak_bytes)
            ranks = {"ranks": everyone(mine)}
        if output.json:
            document = _summary(lm, texts, tokens, last) | {"seed": seeded.seed} | ranks
            print(json.dumps(document | times.document()))
        elif output.tables:
            errors.print()
            errors.print(_tables(lm, last, real, times))
            if ring:
                errors.print(_of_all(**ranks))
            if sampling != seeded and sampling.temperature:
                errors.print(f"drawn with --seed {seeded.seed}")
            if witnessed and last:
                errors.print(witnessed.report())
    return max(everyone(stopped()))


def _read_prompt(prompt: str) -> str:
    try:
        if prompt == "-":
            return sys.stdin.buffer.read().decode().removesuffix("\n")
        prompt.encode()
    except UnicodeError:
        raise InputError("the prompt is not UTF-8 text") from None
    return prompt


@contextmanager
def _recording(
    lm: LanguageModel, prompts: Sequence[str], sampling: Sampling, output: Output, chat: bool
) -> Iterator[Callable[..., None]]:
    """What records a step, if that is asked for."""
    if output.record is None:
        yield lambda step, **more: None
        return
    with (
        open_lines(output.record, "recording", lm, output.log) as write,
        recording(write, lm, prompts, sampling, chat=chat, ops=output.ops) as record,
    ):
        yield record


@contextmanager
def _stream(
    texts: list[str], most: int, output: Output, config: Config
) -> Iterator[Callable[[Step], None]]:
    """What shows a step: live on a terminal, the bare text elsewhere, nothing beside JSON.

    Args:
        texts: what comes before a text, to which the caller adds what comes; several are shown at
            the end.
        most: tokens that may come.
    """
    full_screen = output.live and can_show() and has_room()
    if output.text and output.live and not full_screen:
        columns, rows = FEWEST
        needed = f"a terminal that is not dumb, of {columns} columns and {rows} rows"
        print(f"--live needs {needed}: the text comes without it", file=sys.stderr)
    if not output.text:
        yield lambda step: None
    elif full_screen:
        from minigpt.commands.live import live  # its panels take time to import

        with live(texts, most, config) as show:
            yield show
    elif len(texts) > 1:
        try:
            yield lambda step: None
        finally:
            print("\n\n".join(texts))
    elif output.quiet or not can_show():
        print(texts[0], end="", flush=True)
        try:
            yield lambda step: print(step.text, end="", flush=True)
        finally:
            print()
    else:
        text, number = LiveText(), count(1)
        text.write(texts[0])
        try:
            yield lambda step: text.write(step.text, f"token {next(number)}/{most}", *_status(step))
        finally:
            text.write("\n")


def _status(step: Step) -> tuple[str, ...]:
    """What a pass cost, for the line under the text."""
    read, written = step.counts.bytes_read, step.counts.bytes_written
    moved = sum(read.values()) + sum(written.values())
    return (
        f"{si(step.flops)}FLOP in this pass",
        f"KV {step.kv_bytes_per_token:,} B/token",
        f"peak {decimal(sum(step.peak_bytes.values()))}",
        f"{step.batch * step.new_tokens / step.seconds:.0f} tokens/s",
        f"{si(step.flops / step.seconds)}FLOP/s",
        f"{si(moved / step.seconds)}B/s",
    )


def _tables(
    lm: LanguageModel, last: Step | None, real: dict[str, int] | None, times: Times
) -> Group:
    live = last.live_bytes if last else lm.ledger.live_bytes
    counts, sampling = lm.ledger.snapshot(), lm.sampling.snapshot()
    beside = {"sample": sampling}
    tables = table.report(counts, live, lm.ledger.peak_bytes, component, real, beside)
    note = f"{lm.config.parameters:,} parameters"
    if last:
        note += f" · {last.kv_bytes_per_token:,} bytes of KV cache a token"
    if sampling.total("exp"):  # else the most likely token was taken, without a sort
        note += "\nsample, beside the total, is without its sort: comparisons depend on data"
    return Group(tables, "", times.table(), "", note)


def _of_all(ranks: list[dict[str, Any]]) -> str:
    """What all devices did, under the tables of the first."""
    products = sum(rank["matmul_flops"] for rank in ranks)
    sent = sum(sum(rank["bytes_sent"].values()) for rank in ranks)
    return (
        f"that is rank 0; all {len(ranks)} did {products:,} FLOP of matrix products, "
        f"and sent {sent:,} bytes"
    )


def _summary(
    lm: LanguageModel, texts: list[str], tokens: list[list[int]], last: Step | None
) -> dict[str, Any]:
    counts = lm.ledger.snapshot()
    return {
        "schema": SCHEMA,
        "model": lm.name,
        "texts": texts,
        "tokens": tokens,
        "parameters": lm.config.parameters,
        "kv_bytes_per_token": last.kv_bytes_per_token if last else None,
        "flops": flops(counts),
        "matmul_flops": matmul(counts),
        "kinds": counts.cost.by_kind(),
        "flops_by_component": {k: flops(part) for k, part in counts.by(component).items()},
        "bytes_read": counts.bytes_read,
        "bytes_written": counts.bytes_written,
        "sample": figures(lm.sampling.snapshot()),
        "live_bytes": last.live_bytes if last else lm.ledger.live_bytes,
        "peak_bytes": lm.ledger.peak_bytes,
    }
