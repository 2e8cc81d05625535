"""A plan in words and tables: the `plan` command."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigpt.architectures import PRESETS
from minigpt.assumptions import assumptions
from minigpt.count import WIDE, resolve
from minigpt.errors import InputError
from minigpt.hardware import catalogue, find
from minigpt.plan import OVERHEAD_RANGE, Plan, plan
from minigpt.roofline import Floor, Work

SCHEMA = 1  # of what `plan --json` prints; a change of names or meanings raises it


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
    memory = made.memory
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
            "activations_as_written": memory.activations + memory.square,
            "overhead": memory.overhead,
            "overhead_range": OVERHEAD_RANGE,
            "needed": memory.needed,
            "needed_as_written": memory.as_written,
            "available": made.gpu.memory,
            "available_source": made.gpu.memory_source or made.gpu.source,
            "nominal": made.gpu.nominal_memory or None,
            "spare": made.spare,
            "spare_as_written": made.spare - memory.square,
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


def verdict(made: Plan) -> str:
    """Whether it fits, by how much, what would, and how fast it can be, in a few sentences."""
    where = f"{made.gpus} x {made.gpu.name}" if made.gpus > 1 else f"one {made.gpu.name}"
    needed = gigabytes(made.memory.needed)
    size = f"{needed} of {gigabytes(made.gpu.memory)}{' each' * (made.gpus > 1)}"
    kind = made.dtype
    if made.weights_dtype != kind:
        kind += f" with {made.weights_dtype} weights"
    if made.fits:
        told = (
            f"{made.model} fits on {where} in {kind}: {size}; up to {made.largest_batch:,} "
            f"sequences of {made.context:,} tokens fit at once. "
        )
        if not made.fits_as_written:
            told += (
                "It takes fused attention: as written, all scores stored at once, it needs "
                f"{gigabytes(made.memory.as_written)} and does not fit. "
            )
    else:
        fits, more = "does not fit", f"{gigabytes(-made.spare)} too much"
        if made.may_fit:
            fits = "does not fit for certain"
            more = f"if the runtime takes {made.overhead / 1e9:.2g} GB, and that may be "
            more += f"{made.slack / 1e9:.2g} GB more"
        told = (
            f"{made.model} {fits} on {where} in {kind}: even with fused attention it needs {size}, "
            f"{more}; the weights are {gigabytes(made.memory.weights)}. {_would(made)} "
        )
    each = f" of each of {made.batch:,} sequences" if made.batch > 1 else ""
    takes = "takes" if made.fits else "would take"
    last = f", {_took(made, made.last)} at {made.context:,}" if made.context > 1 else ""
    least, most = ("about", "about") if made.gpu.measured else ("at least", "at most")
    rate = made.batch / made.first.seconds
    told += f"A token{each} {takes} {least} {_took(made, made.first)} at one key{last}"
    told += f": {most} {rate:,.0f} tokens/s, bound by {made.first.binds}. "
    prefill = made.prefill
    return told + (
        f"A prompt of {made.prompt:,} {takes} {least} {_took(made, prefill)} to its first token."
    )


def _took(made: Plan, step: Floor) -> str:
    """The floor, and the estimate where the two differ in the figures shown."""
    about = step.estimate.seconds
    if made.gpu.measured or about < 1.01 * step.seconds:
        return _ms(step.seconds)
    return f"{_ms(step.seconds)} (estimate: {_ms(about)})"


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
    console.print(_memory(made), "")
    passes = {
        f"a token of {made.batch} at one key": made.first,
        f"a token of {made.batch} at {made.context:,} keys": made.last,
        f"a prompt of {made.prompt:,}: the first token": made.prefill,
    }
    least = "about" if made.gpu.measured else "at least"
    estimates = {name: step.estimate for name, step in passes.items()}
    console.print(_times("floor of", passes, least), "")
    console.print(_times("estimate of", estimates, "about"), "")
    facts = _table("", "")
    for fact in _facts(made):
        facts.add_row(*fact)
    console.print(facts)
    for about, told in assumptions(made).items():
        console.print(f"\n{about}: {'; '.join(told)}", style="dim")
    console.print(f"\nGB are 10**9 bytes; {made.gpu.name}: {made.gpu.source}", style="dim")


def _memory(made: Plan) -> Any:
    memory, square = made.memory, made.memory.square
    table = _table("memory of each GPU", "bytes", "GB", "all scores stored", "GB")
    rows = {name: (getattr(memory, name),) * 2 for name in ("weights", "kv_cache")}
    rows["activations"] = memory.activations, memory.activations + square
    rows["overhead"] = memory.overhead, memory.overhead
    rows["needed"] = memory.needed, memory.as_written
    rows["available"] = made.gpu.memory, made.gpu.memory
    rows["spare"] = made.spare, made.spare - square
    for name, sizes in rows.items():
        cells = (cell for n in sizes for cell in (f"{n:,}", f"{n / 1e9:.3f}"))
        total = name in ("needed", "available", "spare")
        table.add_row(name, *cells, style="bold" if total else None)
    return table


def _times(what: str, passes: Mapping[str, Work], total: str) -> Any:
    table = _table(what, "arithmetic", "memory", "wire", total, "binds", "FLOP/byte")
    for name, step in passes.items():
        parts = (step.arithmetic_s, step.memory_s, step.wire_s, step.seconds)
        table.add_row(name, *map(_ms, parts), step.binds, _short(step.intensity))
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
        (f"longest context that fits, batch {made.batch}", f"{made.largest_context:,}"),
        ("tokens that can be cached", f"{made.tokens_cached:,}"),
        ("cache of a token on each GPU", f"{made.kv_bytes_per_token:,.0f} B"),
        (f"{most} tokens/s at one key", f"{made.batch / made.first.seconds:,.0f}"),
        (f"{most} tokens/s at {made.context:,} keys", f"{made.batch / made.last.seconds:,.0f}"),
        ("ridge: FLOP a byte at which arithmetic binds, estimate", _short(made.ridge)),
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
        "needed_as_written": made.memory.as_written,
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
    console = Console(width=WIDE, soft_wrap=True)
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
            _ms(made.first.seconds),
            made.first.binds,
            _ms(made.prefill.seconds),
            "",
            *(_ms(step.seconds) for step in about),
        )
    console.print(table)
    console.print(
        "\nGB on each GPU with fused attention; fits: over the range of the overhead, maybe: at its "
        "low end, fused: not with all scores stored; batch: the largest of such contexts; token: "
        "the floor of a decoded one at one key; first: of the first token of a prompt; what both "
        "rest on: minigpt plan MODEL --gpu GPU",
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


def gigabytes(n: float) -> str:
    return f"{n / 1e9:,.2f} GB"


def _ms(seconds: float) -> str:
    return f"{_short(1e3 * seconds)} ms" if seconds < 0.9995 else f"{_short(seconds)} s"


def _short(x: float) -> str:
    return f"{x:.3g}" if x < 999.5 else f"{x:,.0f}"
