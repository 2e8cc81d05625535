"""The `generate` command: text on standard output; status, tables and errors on standard error."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from os.path import realpath
from pathlib import Path
from time import sleep
from typing import Any

from rich.filesize import decimal

from counting import Counts, Ledger
from counting.table import si
from minigpt import fast
from minigpt.commands.allocator import witnessing
from minigpt.commands.generated import Generated, document, tell
from minigpt.commands.log import STDOUT, open_lines
from minigpt.commands.options import ModelOptions
from minigpt.commands.signals import finishing
from minigpt.commands.terminal import FEWEST, LiveText, can_show, console, has_room, progress
from minigpt.commands.times import Times
from minigpt.errors import InputError, without_effect
from minigpt.inference.device import witness
from minigpt.inference.generate import EMPTY, Step, continuation
from minigpt.inference.load import LanguageModel, load
from minigpt.inference.rank import of_rank
from minigpt.inference.sample import Sampling
from minigpt.models.config import Config
from minigpt.notes import saying
from minigpt.parallel.communicators import MPI
from minigpt.recording.write import recording
from minigpt.storage.reading import LONGEST


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
        if self.log and self.record and _one_file(self.log, self.record):
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


def _one_file(path: Path, other: Path) -> bool:
    """Whether two names are those of one file, which may not be there yet."""
    try:
        return path.samefile(other)
    except OSError:
        return realpath(path) == realpath(other)


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
        if options.device == "cpu" and output.tables and not ring and (advice := fast.missing()):
            console(stderr=True).print(f"NumPy multiplies: {advice}")
        # What is refused is so before a log is opened.
        steps = continuation(lm, prompts, seeded, chat)
        texts = ["" for _ in prompts] if chat else list(prompts)
        made = Generated(texts, [[] for _ in prompts], times)
        with (
            witnessing(lm, allocations) as witnessed,
            open_lines(output.log, "log", lm) as write,
            _recording(lm, prompts, seeded, output, chat) as record,
            _stream(texts, sampling.max_new_tokens, output, lm.config) as show,
            finishing() as stopped,
            suppress(*([] if ring else [KeyboardInterrupt])),  # one alone cannot end in peace
        ):
            for step in steps:
                ranks = _of_ranks(ring, step.counts, step)
                write(step.record() | ranks)
                record(step, **ranks)
                made.add(step)
                if witnessed:
                    made.real = witnessed.look()
                try:
                    show(step)
                except OSError:  # a terminal that goes refuses text before it sends SIGHUP
                    sleep(0.1)
                    if not stopped():
                        raise
                if any(everyone(stopped())):
                    break
        ranks = _of_ranks(ring, lm.ledger.snapshot(), lm.ledger)
        if output.json:
            told = document(lm, made) | {"seed": seeded.seed} | ranks
            print(json.dumps(told | times.document()))
        elif output.tables:
            drawn = seeded.seed if sampling != seeded and sampling.temperature else None
            tell(lm, made, ranks, drawn, witnessed)
    return max(everyone(stopped()))


def _of_ranks(ring: MPI | None, counts: Counts, of: Step | Ledger) -> dict[str, list[Any]]:
    """What each process of a ring did and holds, as documents have it; nothing of one alone."""
    return {"ranks": ring.everyone(of_rank(counts, of.live_bytes, of.peak_bytes))} if ring else {}


def _read_prompt(prompt: str) -> str:
    """A prompt, or what standard input has in the place of `-`."""
    try:
        if prompt != "-":
            prompt.encode()
            return prompt
        read = sys.stdin.buffer.read(LONGEST + 1)  # which may never end
        if len(read) > LONGEST:
            raise InputError(f"the prompt has more than {LONGEST:,} bytes")
        return read.decode().removesuffix("\n")
    except UnicodeError:
        raise InputError("the prompt is not UTF-8 text") from None


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
