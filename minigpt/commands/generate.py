"""The `generate` command: text on standard output; status, tables and errors on standard error."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from counting import table
from counting.array import observing
from counting.numpy_memory import Allocations
from counting.table import si
from counting.views import flops, matmul
from minigpt import fast
from minigpt.checkpoint.hub import SHIPPED, find
from minigpt.commands import pool as pool_text
from minigpt.commands.terminal import LiveText, can_show, console
from minigpt.commands.times import Times
from minigpt.errors import InputError
from minigpt.inference.generate import EMPTY, Step, check_options, figures, generate
from minigpt.inference.load import LanguageModel, load
from minigpt.models.paths import component
from minigpt.notes import saying
from minigpt.schema import SCHEMA
from minigpt.storage.files import cache_folder
from minigpt.storage.outputs import STREAMS, check_apart, lines

INTERRUPTED = 130  # what a shell makes of Ctrl-C
STDOUT = Path("-")  # as a log: the records are what is printed


def run(
    prompts: Sequence[str],
    model: str,
    place: dict[str, Any],
    options: dict[str, Any],
    log: Path | None,
    as_json: bool,
    quiet: bool,
    allocations: Any = None,
) -> int:
    """Generates, shows and logs; gives the exit status, 0 or 130 if interrupted.

    `allocations` is what `device.witness` gives, entered, or None.
    """
    times = Times()
    prompts = [_read_prompt(prompt) for prompt in prompts]
    if not prompts:
        raise InputError("the prompt is empty: give a text to continue, or - to read one")
    if "" in prompts:
        raise InputError(EMPTY)
    check_options(**options)
    errors = console(stderr=True)
    with _loading(model, show=not quiet and not as_json) as progress:
        lm = load(model, progress=progress, **place)
    times.loaded()
    if place["device"] == "cpu" and not (quiet or as_json) and (advice := fast.missing()):
        errors.print(f"NumPy multiplies: {advice}", markup=False)
    if allocations:
        allocations.reset_peak()
    steps = generate(lm, prompts, **options)
    texts = list(prompts)
    tokens: list[list[int]] = [[] for _ in prompts]
    last = real = moment = None
    pool: Any = None if isinstance(allocations, Allocations) else allocations
    with (
        nullcontext(_print_record) if log == STDOUT else _open_log(log, lm) as write,
        _stream(prompts, options, as_json or log == STDOUT, quiet) as show,
        _stop_asked() as stopped,
        observing(lm.ledger, pool) if pool else nullcontext(),
    ):
        try:
            for step in steps:
                write(step.record())
                texts[step.sequence] += step.text
                tokens[step.sequence].append(step.token)
                times.add(step)
                last, moment = step, pool and pool.now()
                real = moment.asked if moment else allocated(allocations)
                show(step)
                if stopped():
                    break
        except KeyboardInterrupt:
            pass
    if as_json:
        print(json.dumps(_summary(lm, texts, tokens, last) | times.document()))
    elif not quiet:
        errors.print()
        errors.print(_tables(lm, last, real, times))
        if moment and last:
            errors.print()
            errors.print(pool_text.report(lm.device.name, moment, pool.hidden, component))
        elif allocations and not pool:
            errors.print(f"NumPy's allocator held {allocations.peak:,} bytes at most since loading")
    return INTERRUPTED if stopped() else 0


# What the allocator's bytes are, by the module that asked for them.
_CATEGORIES = {"minigpt.checkpoint.tensors": "weights", "minigpt.fast.store": "weights"}
_CATEGORIES["minigpt.models.cache"] = "kv_cache"
# What the ledger does not count: tokens and draws; threads, recorded jobs.
_OUTSIDE = ["minigpt.inference.generate", "minigpt.inference.sample", "minigpt.fast.replay"]
_OUTSIDE += ["minigpt.fast.kernels.machine", "minigpt.fast.kernels.threads"]


def allocated(allocations: Any) -> dict[str, int] | None:
    """Live bytes of NumPy's allocator by category; memory-mapped weights are not among them."""
    if not isinstance(allocations, Allocations):
        return None
    files = {
        Path(str(m.__file__)): name
        for name, m in sys.modules.items()
        if name in (*_CATEGORIES, *_OUTSIDE)
    }
    known = [file for file, name in files.items() if name in _CATEGORIES]
    found: dict[str, int] = {}
    for file, nbytes in allocations.by_file(known).items():
        name = files.get(file, "")
        category = _CATEGORIES.get(name, "elsewhere" if name in _OUTSIDE else "activations")
        found[category] = found.get(category, 0) + nbytes
    return found


def _read_prompt(prompt: str) -> str:
    try:
        if prompt == "-":
            return sys.stdin.buffer.read().decode().removesuffix("\n")
        prompt.encode()
    except UnicodeError:
        raise InputError("the prompt is not UTF-8 text") from None
    return prompt


@contextmanager
def _loading(model: str, show: bool) -> Iterator[Callable[[int, int], None]]:
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn()
    terminal = Console(stderr=True)
    hidden = not (show and terminal.is_terminal)
    bar = Progress(*columns, console=terminal, transient=True, disable=hidden)
    with saying(show), bar:
        task = bar.add_task(f"loading {model}", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_record(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)


@contextmanager
def _open_log(path: Path | None, lm: LanguageModel) -> Iterator[Callable[[dict[str, Any]], None]]:
    if path is None:
        yield lambda record: None
        return
    check_apart([path], _in_use(lm))
    with lines(path, f"the log {path}") as write:
        yield lambda record: write(json.dumps(record).encode())


def _in_use(lm: LanguageModel) -> Iterator[Path | int]:
    """The streams, and the files that this program reads: of models, of its cache, its own."""
    yield from STREAMS
    yield from lm.files
    yield from find(SHIPPED).files
    with suppress(OSError):  # without a home there is no cache
        yield from cache_folder().glob("**/*")
    sources = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    yield from (Path(source) for source in sources if source)


@contextmanager
def _stop_asked() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: the pass that runs is finished first; pressed again, it is not.

    Python would raise KeyboardInterrupt anywhere, in a `__del__` too, which swallows it.
    """
    asked = False

    def ask(*_: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _stream(
    prompts: Sequence[str], options: dict[str, Any], silent: bool, quiet: bool
) -> Iterator[Callable[[Step], None]]:
    """What shows a step: live on a terminal, the bare text elsewhere, nothing if `silent`."""
    if silent:
        yield lambda step: None
    elif len(prompts) > 1:
        texts = list(prompts)

        def collect(step: Step) -> None:
            texts[step.sequence] += step.text

        try:
            yield collect
        finally:
            print("\n\n".join(texts))
    elif quiet or not can_show():
        print(prompts[0], end="", flush=True)
        try:
            yield lambda step: print(step.text, end="", flush=True)
        finally:
            print()
    else:
        terminal = _Terminal(prompts[0], options["max_new_tokens"])
        try:
            yield terminal.show
        finally:
            terminal.end()


class _Terminal:
    """The text as it comes, and under it a line on the last pass."""

    def __init__(self, prompt: str, most: int) -> None:
        self._text, self._most = LiveText(), most
        self._first: int | None = None
        self._text.write(prompt)

    def show(self, step: Step) -> None:
        if self._first is None:
            self._first = step.position
        read, written = step.counts.bytes_read, step.counts.bytes_written
        moved = sum(read.values()) + sum(written.values())
        tokens = step.batch * step.new_tokens
        self._text.write(
            step.text,
            f"token {step.position - self._first + 1}/{self._most}",
            f"{si(step.flops)}FLOP in this pass",
            f"KV {step.kv_bytes_per_token:,} B/token",
            f"peak {decimal(sum(step.peak_bytes.values()))}",
            f"{tokens / step.seconds:.0f} tokens/s",
            f"{si(step.flops / step.seconds)}FLOP/s",
            f"{si(moved / step.seconds)}B/s",
        )

    def end(self) -> None:
        self._text.write("\n")


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
