"""A plan in words and tables: the `plan` command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from minigpt.architectures import PRESETS
from minigpt.count import WIDE, resolve
from minigpt.dimensions import layers
from minigpt.errors import InputError
from minigpt.hardware import catalogue, find
from minigpt.plan import OVERHEAD_RANGE, Plan, plan
from minigpt.roofline import PHASE_SECONDS, Step

ASSUMED = (
    "weights and cache are exact; activations those of the run, operation by operation, prompts "
    "one at a time; runtime overhead is an assumption, {:.2g} GB in a range of {:.2g} to {:.2g}; "
    "times are floors of the algorithm as written, which kernels come near at best; "
    "GB are 10**9 bytes"
)


def run(
    model: str,
    gpu: str,
    *,
    gpu_file: Path | None = None,
    as_json: bool = False,
    **options: Any,
) -> None:
    """Prints a plan, or with "all" as model or GPU one line for each: the `plan` command.

    Args:
        gpu_file: describes one more GPU, see `hardware.read`.
        options: those of `plan.plan`.

    Raises:
        InputError: see `plan.plan`, `hardware.find` and `count.resolve`.
    """
    if "all" in (model, gpu):
        plans = _compared(model, gpu, gpu_file, options)
        if as_json:
            print(json.dumps([_line(one) for one in plans]))
        else:
            _print_lines(plans)
        return
    made = plan(model, resolve(model), find(gpu, gpu_file), **options)
    if as_json:
        print(json.dumps(document(made)))
    else:
        _print(made)


def document(made: Plan) -> dict[str, Any]:
    """A plan as `plan --json` prints it: bytes, seconds, FLOP."""
    low, high = (replace(made, overhead=n).largest_batch for n in reversed(OVERHEAD_RANGE))
    return {
        "verdict": verdict(made),
        "model": made.model,
        "gpu": made.gpu.name,
        "gpus": made.gpus,
        "dtype": made.dtype,
        "weights_dtype": made.weights_dtype,
        "context": made.context,
        "batch": made.batch,
        "prompt": made.prompt,
        "fits": made.fits,
        "memory_of_each_gpu": {
            **made.memory._asdict(),
            "overhead_range": OVERHEAD_RANGE,
            "needed": made.memory.needed,
            "available": made.gpu.memory,
            "spare": made.spare,
        },
        "kv_bytes_per_token_of_each_gpu": made.kv_bytes_per_token,
        "largest_batch": made.largest_batch,
        "largest_batch_over_overhead_range": [low, high],
        "largest_context": made.largest_context,
        "tokens_cached": made.tokens_cached,
        "would_fit": None if made.fits else made.remedies(),
        "decode_at_one_key": made.first.as_dict(),
        "decode_at_context": made.last.as_dict(),
        "prefill": made.prefill.as_dict(),
        "time_to_first_token_s": made.prefill.seconds,
        "ridge": made.ridge,
        "compute_bound_batch": {
            "at_one_key": made.compute_bound_batch(made.first),
            "at_context": made.compute_bound_batch(made.last),
        },
    }


def verdict(made: Plan) -> str:
    """Whether it fits, by how much, what would, and how fast a token can be, in a few sentences."""
    where = f"{made.gpus} x {made.gpu.name}" if made.gpus > 1 else f"one {made.gpu.name}"
    size = f"{gigabytes(made.memory.needed)} of {gigabytes(made.gpu.memory)}"
    kind = made.dtype
    if made.weights_dtype != kind:
        kind += f" with {made.weights_dtype} weights"
    if made.fits:
        told = (
            f"{made.model} fits on {where} in {kind}: {size}{' each' * (made.gpus > 1)}; up to "
            f"{made.largest_batch:,} sequences of {made.context:,} tokens fit at once. "
        )
    else:
        told = (
            f"{made.model} does not fit on {where} in {kind}: it needs {size}, "
            f"{gigabytes(-made.spare)} too much; the weights are {gigabytes(made.memory.weights)}. "
            f"{_would(made)} "
        )
    rate = made.batch / made.first.seconds
    last = f", {_ms(made.last.seconds)} at {made.context:,}" if made.context > 1 else ""
    each = f" of each of {made.batch:,} sequences" if made.batch > 1 else ""
    takes = "takes" if made.fits else "would take"
    return told + (
        f"A token{each} {takes} at least {_ms(made.first.seconds)} at one key{last}: "
        f"at most {rate:,.0f} tokens/s, bound by {made.first.binds}."
    )


def _would(made: Plan) -> str:
    found = made.remedies()
    ways = [f"with {name} weights" for name in found["weights_dtype"]]
    if made.largest_batch:
        ways.append(f"with a batch of {made.largest_batch:,}")
    if made.largest_context:
        ways.append(f"with a context of {made.largest_context:,}")
    if found["gpus"]:
        ways.append(f"on {found['gpus']} of them")
    if found["gpu"]:
        ways.append(f"on one {found['gpu']}")
    return f"What would fit: {'; '.join(ways)}." if ways else "Nothing here would make it fit."


def _print(made: Plan) -> None:
    from rich.console import Console

    console = Console(width=WIDE, soft_wrap=True)
    console.print(verdict(made), "", style="bold")
    memory = _table("memory of each GPU", "bytes", "GB")
    for name, n in made.memory._asdict().items():
        memory.add_row(name, f"{n:,}", f"{n / 1e9:.3f}")
    total = {"needed": made.memory.needed, "available": made.gpu.memory, "spare": made.spare}
    for name, n in total.items():
        memory.add_row(name, f"{n:,}", f"{n / 1e9:.3f}", style="bold")
    times = _table("floor of", "arithmetic", "memory", "wire", "at least", "binds", "FLOP/byte")
    for name, step in (
        (f"a token of {made.batch} at one key", made.first),
        (f"a token of {made.batch} at {made.context:,} keys", made.last),
        (f"a prompt of {made.prompt:,}: the first token", made.prefill),
    ):
        times.add_row(name, *_times(step))
    facts = _table("", "")
    for fact in _facts(made):
        facts.add_row(*fact)
    for part in (memory, times, facts):
        console.print(part, "")
    low, high = OVERHEAD_RANGE
    console.print(ASSUMED.format(made.overhead / 1e9, low / 1e9, high / 1e9), style="dim")
    console.print(f"{made.gpu.name}: {made.gpu.source}", style="dim")


def _times(step: Step) -> tuple[str, ...]:
    parts = (step.arithmetic_s, step.memory_s, step.wire_s, step.seconds)
    return (*map(_ms, parts), step.binds, _short(step.intensity))


def _facts(made: Plan) -> list[tuple[str, str]]:
    low, high = (replace(made, overhead=n).largest_batch for n in reversed(OVERHEAD_RANGE))
    at_one, at_last = (made.compute_bound_batch(step) for step in (made.first, made.last))
    facts = [
        (
            f"sequences of {made.context:,} tokens that fit",
            f"{made.largest_batch:,} ({low:,} to {high:,} over the range of the overhead)",
        ),
        (f"longest context that fits, batch {made.batch}", f"{made.largest_context:,}"),
        ("tokens that can be cached", f"{made.tokens_cached:,}"),
        ("cache of a token on each GPU", f"{made.kv_bytes_per_token:,.0f} B"),
        ("most tokens/s at one key", f"{made.batch / made.first.seconds:,.0f}"),
        (f"most tokens/s at {made.context:,} keys", f"{made.batch / made.last.seconds:,.0f}"),
        ("ridge: FLOP a byte at which arithmetic binds", _short(made.ridge)),
        (
            "batch at which it turns compute-bound",
            f"{at_one or 'never'} at one key, {at_last or 'never'} at {made.context:,}",
        ),
    ]
    if made.gpus > 1:
        sent = made.first.wire_bytes / made.batch
        phases = 4 * layers(made.config)
        facts.append(
            (
                "each GPU sends, a token",
                f"{sent:,.0f} B at {made.gpu.link_bandwidth / 1e9:.4g} GB/s ({made.gpu.link}) in "
                f"{phases} phases of {PHASE_SECONDS * 1e6:.0f} us; taken to link all of them",
            )
        )
    return facts


def _compared(model: str, gpu: str, file: Path | None, options: dict[str, Any]) -> list[Plan]:
    configs = PRESETS if model == "all" else {model: resolve(model)}
    gpus = list(catalogue(file).values()) if gpu == "all" else [find(gpu, file)]
    plans = []
    for name, config in configs.items():
        fitted = dict(options)
        for limit in ("context", "prompt") if model == "all" else ():
            if fitted.get(limit):
                fitted[limit] = min(fitted[limit], config.n_positions)
        for one in gpus:
            dtype = options.get("dtype")
            if gpu != "all" or dtype is None or f"{dtype}/float32" in one.flops:
                plans.append(plan(name, config, one, **fitted))
    if not plans:
        raise InputError(f"no GPU here has a rate for {options['dtype']}")
    return plans


def _line(made: Plan) -> dict[str, Any]:
    return {
        "model": made.model,
        "gpu": made.gpu.name,
        "gpus": made.gpus,
        "dtype": made.dtype,
        "weights_dtype": made.weights_dtype,
        "context": made.context,
        "batch": made.batch,
        "fits": made.fits,
        "needed": made.memory.needed,
        "available": made.gpu.memory,
        "largest_batch": made.largest_batch,
        "decode_at_one_key_s": made.first.seconds,
        "decode_at_context_s": made.last.seconds,
        "binds": made.first.binds,
        "time_to_first_token_s": made.prefill.seconds,
    }


def _print_lines(plans: list[Plan]) -> None:
    from rich.console import Console

    fitting = sum(made.fits for made in plans)
    console = Console(width=WIDE, soft_wrap=True)
    console.print(f"{fitting} of {len(plans)} fit.\n", style="bold")
    names = ("model", "GPU", "context", "GB", "of", "fits", "batch", "token", "binds", "first")
    table = _table(*names)
    for made in plans:
        table.add_row(
            made.model,
            f"{made.gpus} x {made.gpu.name}" if made.gpus > 1 else made.gpu.name,
            f"{made.context:,}",
            f"{made.memory.needed / 1e9:,.1f}",
            f"{made.gpu.memory / 1e9:,.1f}",
            "yes" if made.fits else "no",
            f"{made.largest_batch:,}",
            _ms(made.first.seconds),
            made.first.binds,
            _ms(made.prefill.seconds),
        )
    console.print(table)
    console.print(
        "\nGB on each GPU; batch: the largest of such contexts; token: the floor of a decoded one "
        "at one key; first: time to the first token of a prompt, at least",
        style="dim",
    )


def _table(first: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(first))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right" if first else "left", no_wrap=True)
    return table


def gigabytes(n: float) -> str:
    return f"{n / 1e9:,.2f} GB"


def _ms(seconds: float) -> str:
    return f"{_short(1e3 * seconds)} ms" if seconds < 0.9995 else f"{_short(seconds)} s"


def _short(x: float) -> str:
    return f"{x:.3g}" if x < 999.5 else f"{x:,.0f}"
