"""A plan in words and tables: the `plan` command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.checkpoint.resolve import resolve
from minigpt.commands.terminal import WIDE
from minigpt.commands.verdict import gigabytes as gigabytes
from minigpt.commands.verdict import milliseconds, short, verdict
from minigpt.errors import InputError
from minigpt.models.architectures import PRESETS
from minigpt.planning.assumptions import assumptions
from minigpt.planning.hardware import catalogue, find
from minigpt.planning.plan import OVERHEAD_RANGE, Plan, plan
from minigpt.planning.roofline import Work
from minigpt.schema import SCHEMA


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
        InputError: see `plan.plan`, `hardware.find` and `resolve.resolve`.
    """
    if "all" in (model, gpu):
        plans = _compared(model, gpu, gpu_file, options)
        if as_json:
            print(json.dumps({"schema": SCHEMA, "plans": [_line(one) for one in plans]}))
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
    memory, written = made.memory, made.memory_as_written
    return {
        "schema": SCHEMA,
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
        "may_fit": made.may_fit,
        "fits_as_written": made.fits_as_written,
        "memory_of_each_gpu": {
            "weights": memory.weights,
            "kv_cache": memory.kv_cache,
            "activations": memory.activations,
            "activations_as_written": written.activations,
            "overhead": memory.overhead,
            "overhead_range": OVERHEAD_RANGE,
            "needed": memory.needed,
            "needed_as_written": written.needed,
            "available": made.gpu.memory,
            "available_source": made.gpu.memory_source or made.gpu.source,
            "nominal": made.gpu.nominal_memory or None,
            "spare": made.spare,
            "spare_as_written": made.spare_as_written,
        },
        "kv_bytes_per_token_of_each_gpu": made.kv_bytes_per_token,
        "largest_batch": made.largest_batch,
        "largest_batch_over_overhead_range": [made.largest_batch, made.most_sequences(_may_fit)],
        "largest_batch_as_written": made.most_sequences(_as_written),
        "largest_context": made.largest_context,
        "tokens_cached": made.tokens_cached,
        "what_would_fit": None if made.fits else made.remedies(),
        "bound": not made.gpu.measured,
        "rates": {"floor": made.roofline.fastest, "estimate": f"{made.dtype}/float32"},
        "decode_at_one_key": made.first.as_dict(),
        "decode_at_context": made.last.as_dict(),
        "prefill": made.prefill.as_dict(),
        "time_to_first_token_s": made.prefill.seconds,
        "tokens_per_second": {
            "at_one_key": made.batch / made.first.seconds,
            "at_context": made.batch / made.last.seconds,
        },
        "ridge": made.ridge,
        "compute_bound_batch": {
            "at_one_key": made.compute_bound_batch(made.first),
            "at_context": made.compute_bound_batch(made.last),
        },
        "assumptions": assumptions(made),
    }


def _may_fit(made: Plan) -> bool:
    return made.may_fit


def _as_written(made: Plan) -> bool:
    return made.fits_as_written


def _print(made: Plan) -> None:
    from rich.console import Console

    console = Console(width=WIDE, soft_wrap=True, markup=False)
    console.print(verdict(made), "", style="bold")
    console.print(_memory(made), "")
    passes = {
        f"a token of {made.batch} at one key": made.first,
        f"a token of {made.batch} at {made.context:,} keys": made.last,
        f"a prompt of {made.prompt:,}: the first token": made.prefill,
    }
    estimates = {name: step.estimate for name, step in passes.items()}
    console.print(_times("floor of", passes, "at least"), "")
    console.print(_times("estimate of", estimates, "about"), "")
    facts = _table("", "")
    for fact in _facts(made):
        facts.add_row(*fact)
    console.print(facts)
    for about, told in assumptions(made).items():
        console.print("\n- ".join([f"\n{about}: what is assumed", *told]), style="dim")
    console.print(f"\nGB are 10**9 bytes; {made.gpu.name}: {made.gpu.source}", style="dim")


def _memory(made: Plan) -> Any:
    table = _table("memory of each GPU", "bytes", "GB", "all scores stored", "GB")
    both = made.memory, made.memory_as_written
    for parts in zip(*(memory._asdict().items() for memory in both), strict=True):
        _row(table, *dict(parts), *(n for _, n in parts))
    _row(table, "needed", *(memory.needed for memory in both), style="bold")
    _row(table, "available", made.gpu.memory, made.gpu.memory, style="bold")
    _row(table, "spare", made.spare, made.spare_as_written, style="bold")
    return table


def _row(table: Any, name: str, *sizes: int, style: str | None = None) -> None:
    cells = (cell for n in sizes for cell in (f"{n:,}", f"{n / 1e9:.3f}"))
    table.add_row(name, *cells, style=style)


def _times(what: str, passes: Mapping[str, Work], total: str) -> Any:
    table = _table(what, "arithmetic", "memory", "wire", total, "binds", "FLOP/byte")
    for name, step in passes.items():
        parts = (step.arithmetic_s, step.memory_s, step.wire_s, step.seconds)
        table.add_row(name, *map(milliseconds, parts), step.binds, short(step.intensity))
    return table


def _facts(made: Plan) -> list[tuple[str, str]]:
    high, written = made.most_sequences(_may_fit), made.most_sequences(_as_written)
    at_one, at_last = (made.compute_bound_batch(step) for step in (made.first, made.last))
    most = "about" if made.gpu.measured else "most"
    facts = [
        (
            f"sequences of {made.context:,} tokens that fit",
            f"{made.largest_batch:,} to {high:,} over the range of the overhead; {written:,} with "
            "all scores stored",
        ),
        (
            f"longest context that fits, batch {made.batch}, whatever the overhead",
            f"{made.largest_context:,}",
        ),
        ("tokens that can be cached, whatever the overhead", f"{made.tokens_cached:,}"),
        ("cache of a token on each GPU", f"{made.kv_bytes_per_token:,.0f} B"),
        (f"{most} tokens/s at one key", f"{made.batch / made.first.seconds:,.0f}"),
        (f"{most} tokens/s at {made.context:,} keys", f"{made.batch / made.last.seconds:,.0f}"),
        ("ridge: FLOP a byte at which arithmetic binds, estimate", short(made.ridge)),
        (
            "batch at which it turns compute-bound, estimate",
            f"{at_one or 'never'} at one key, {at_last or 'never'} at {made.context:,}",
        ),
    ]
    if made.gpus > 1:
        sent = made.first.estimate.wire_bytes / made.batch
        speed = f"{made.gpu.link_bandwidth / 1e9:.4g} GB/s ({made.gpu.link})"
        facts.append(("each GPU sends, a token, estimate", f"{sent:,.0f} B at {speed}"))
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
        "may_fit": made.may_fit,
        "fits_as_written": made.fits_as_written,
        "needed": made.memory.needed,
        "needed_as_written": made.memory_as_written.needed,
        "available": made.gpu.memory,
        "largest_batch": made.largest_batch,
        "bound": not made.gpu.measured,
        "decode_at_one_key_s": made.first.seconds,
        "decode_at_context_s": made.last.seconds,
        "binds": made.first.binds,
        "time_to_first_token_s": made.prefill.seconds,
        "estimate": {
            "decode_at_one_key_s": made.first.estimate.seconds,
            "decode_at_context_s": made.last.estimate.seconds,
            "time_to_first_token_s": made.prefill.estimate.seconds,
        },
    }


def _print_lines(plans: list[Plan]) -> None:
    from rich.console import Console

    fitting = sum(made.fits for made in plans)
    console = Console(width=WIDE, soft_wrap=True, markup=False)
    console.print(f"{fitting} of {len(plans)} fit.\n", style="bold")
    names = ("model", "GPU", "context", "GB", "of", "fits", "batch")
    table = _table(*names, "token", "binds", "first", "estimate:", "token", "first")
    for made in plans:
        about = made.first.estimate, made.prefill.estimate
        table.add_row(
            made.model,
            f"{made.gpus} x {made.gpu.name}" if made.gpus > 1 else made.gpu.name,
            f"{made.context:,}",
            f"{made.memory.needed / 1e9:,.1f}",
            f"{made.gpu.memory / 1e9:,.1f}",
            _fits(made),
            f"{made.largest_batch:,}",
            milliseconds(made.first.seconds),
            made.first.binds,
            milliseconds(made.prefill.seconds),
            "",
            *(milliseconds(step.seconds) for step in about),
        )
    console.print(table)
    console.print(
        "\nGB on each GPU with fused attention; fits: over the range of the overhead; maybe: at "
        "its low end; fused: not with all scores stored; batch: the largest of such contexts; "
        "token: the floor of a decoded one at one key; first: of the first token of a prompt; what "
        "all of it assumes: minigpt plan MODEL --gpu GPU",
        style="dim",
    )


def _fits(made: Plan) -> str:
    if not made.fits:
        return "maybe" if made.may_fit else "no"
    return "yes" if made.fits_as_written else "fused"


def _table(first: str, *columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(first))
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right" if first else "left", no_wrap=True)
    return table
