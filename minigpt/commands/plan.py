"""The `plan` command: a plan in words, tables and JSON, or many in a line each."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.table import Table

from counting.table import table
from minigpt.checkpoint.headers import stored
from minigpt.checkpoint.resolve import resolve
from minigpt.checks import shown
from minigpt.commands.stored import stored_document, stored_lines
from minigpt.commands.terminal import console
from minigpt.commands.verdict import milliseconds, short, verdict
from minigpt.errors import InputError
from minigpt.models.architectures import COMPARED, PRESETS
from minigpt.planning.assumptions import assumptions
from minigpt.planning.devices import MOST_DEVICES
from minigpt.planning.hardware import catalogue, find
from minigpt.planning.options import Options
from minigpt.planning.plan import OVERHEAD_RANGE, Memory, Plan, plan
from minigpt.planning.roofline import Work
from minigpt.schema import SCHEMA

_FITS = ("fits", "may_fit", "fits_as_written")


def run(
    model: str,
    gpu: str,
    asked: Options = Options(),  # noqa: B008
    gpu_file: Path | None = None,
    as_json: bool = False,
) -> None:
    """Prints a plan, or with "all" as model or GPU one line for each: the `plan` command.

    Args:
        gpu_file: describes one more GPU, see `hardware.read`.

    Raises:
        InputError: see `plan.plan`, `hardware.find` and `resolve.resolve`.
    """
    if "all" in (model, gpu):
        plans = _compared(model, gpu, gpu_file, asked)
        if as_json:
            print(json.dumps({"schema": SCHEMA, "plans": [_line(one) for one in plans]}))
        else:
            _print_lines(plans, some=model == "all")
        return
    config = resolve(model)
    made = plan(model, config, find(gpu, gpu_file), asked)
    held = stored(model, config)
    if as_json:
        print(json.dumps({**document(made), **stored_document(held)}))
    else:
        _print(made, stored_lines(held))


def document(made: Plan) -> dict[str, Any]:
    """A plan as `plan --json` prints it, but for `stored`: bytes, seconds, FLOP."""
    memory, written = made.memory, made.memory_as_written
    return {
        "schema": SCHEMA,
        "verdict": verdict(made),
        **_named(made, "gpus", "dtype", "weights_dtype", "context", "batch", "prompt", *_FITS),
        "memory_of_each_gpu": {
            "weights": memory.weights,
            "kv_cache": memory.kv_cache,
            "state": memory.state,
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
            "spare_as_written": made.gpu.memory - written.needed,
        },
        "kv_bytes_per_token_of_each_gpu": made.kv_bytes_per_token,
        "kv_cache_if_each_layer_keeps_all": made.kv_cache_kept,
        "largest_batch": made.largest_batch,
        "largest_batch_over_overhead_range": [
            made.largest_batch,
            made.most_sequences(OVERHEAD_RANGE[0]),
        ],
        "largest_batch_as_written": made.most_sequences(as_written=True),
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


def _named(made: Plan, *names: str) -> dict[str, Any]:
    """What is asked of a plan, and what it says, by the names of its attributes."""
    head = {"model": made.model, "gpu": made.gpu.name}
    return head | {name: getattr(made, name) for name in names}


def _print(made: Plan, held: list[str]) -> None:
    out = console()
    out.print(verdict(made), "", style="bold")
    if held:
        out.print(*held, "", sep="\n")
    out.print(_memory(made), "")
    passes = {
        f"a token of {made.batch} at one key": made.first,
        f"a token of {made.batch} at {made.context:,} keys": made.last,
        f"a prompt of {made.prompt:,}: the first token": made.prefill,
    }
    estimates = {name: step.estimate for name, step in passes.items()}
    out.print(_times("floor of", passes, "at least"), "")
    out.print(_times("estimate of", estimates, "about"), "")
    facts = table("", "", justify="left")
    for fact in _facts(made):
        facts.add_row(*fact)
    out.print(facts)
    for about, told in assumptions(made).items():
        out.print("\n- ".join([f"\n{about}: what is assumed", *told]), style="dim")
    out.print(f"\nGB are 10**9 bytes; {made.gpu.name}: {made.gpu.source}", style="dim")


def _memory(made: Plan) -> Table:
    rows = table("memory of each GPU", "bytes", "GB", "all scores stored", "GB")

    def row(name: str, *sizes: int, style: str | None = None) -> None:
        cells = (cell for n in sizes for cell in (f"{n:,}", f"{n / 1e9:.3f}"))
        rows.add_row(name, *cells, style=style)

    memory, written = made.memory, made.memory_as_written
    for name in Memory._fields:
        if name != "state" or memory.state:  # which few models have
            row(name, getattr(memory, name), getattr(written, name))
    row("needed", memory.needed, written.needed, style="bold")
    row("available", made.gpu.memory, made.gpu.memory, style="bold")
    row("spare", made.spare, made.gpu.memory - written.needed, style="bold")
    return rows


def _times(what: str, passes: Mapping[str, Work], total: str) -> Table:
    rows = table(what, "arithmetic", "memory", "wire", total, "binds", "FLOP/byte")
    for name, step in passes.items():
        parts = (step.arithmetic_s, step.memory_s, step.wire_s, step.seconds)
        rows.add_row(name, *map(milliseconds, parts), step.binds, short(step.intensity))
    return rows


def _facts(made: Plan) -> list[tuple[str, str]]:
    high, written = made.most_sequences(OVERHEAD_RANGE[0]), made.most_sequences(as_written=True)
    at_one, at_last = (made.compute_bound_batch(step) for step in (made.first, made.last))
    most = "about" if made.gpu.measured else "most"
    kept, windows = made.kv_cache_kept, list[tuple[str, str]]()
    if kept > made.memory.kv_cache:
        windows = [("cache where each layer keeps all, windows or not", f"{kept:,} B")]
    states = list[tuple[str, str]]()
    if made.memory.state:
        each = made.memory.state // made.batch
        states = [("state of a sequence on each GPU, whatever its length", f"{each:,} B")]
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
        ("cache of a token on each GPU", f"{made.kv_bytes_per_token:,} B"),
        *windows,
        *states,
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


def _compared(model: str, gpu: str, file: Path | None, asked: Options) -> list[Plan]:
    if asked.gpus > MOST_DEVICES:  # a plan takes seconds then
        what = f"where plans are compared it must be from 1 to {MOST_DEVICES}"
        raise InputError(f"gpus is {shown(asked.gpus)}; {what}")
    configs = {name: resolve(name) for name in (COMPARED if model == "all" else [model])}
    gpus = list(catalogue(file).values()) if gpu == "all" else [find(gpu, file)]
    plans = []
    for name, config in configs.items():
        fitted = _fitted(asked, config.n_positions) if model == "all" else asked
        for one in gpus:
            if gpu != "all" or asked.dtype is None or f"{asked.dtype}/float32" in one.flops:
                plans.append(plan(name, config, one, fitted))
    if not plans:
        raise InputError(f"no GPU here has a rate for {asked.dtype}")
    return plans


def _fitted(asked: Options, most: int) -> Options:
    """What is asked, with a context and a prompt no longer than a model's."""
    context, prompt = (n and min(n, most) for n in (asked.context, asked.prompt))
    return replace(asked, context=context, prompt=prompt)


def _line(made: Plan) -> dict[str, Any]:
    return {
        **_named(made, "gpus", "dtype", "weights_dtype", "context", "batch", *_FITS),
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


def _print_lines(plans: list[Plan], some: bool) -> None:
    """A table; of `some` of the presets, if not of one model."""
    fitting = sum(made.fits for made in plans)
    out = console()
    which = f": {len(COMPARED)} of the {len(PRESETS)} presets are compared" if some else ""
    out.print(f"{fitting} of {len(plans)} fit{which}.\n", style="bold")
    names = ("model", "GPU", "context", "GB", "of", "fits", "batch")
    rows = table(*names, "token", "binds", "first", "estimate:", "token", "first")
    for made in plans:
        about = made.first.estimate, made.prefill.estimate
        rows.add_row(
            made.model,
            made.where,
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
    out.print(rows)
    out.print(
        "\nGB on each GPU with fused attention; fits: over the range of the overhead; may fit: "
        "at its low end; fused: not with all scores stored; batch: the largest of such contexts; "
        "token: the floor of a decoded one at one key; first: of the first token of a prompt; what "
        "all of it assumes: minigpt plan MODEL --gpu GPU",
        style="dim",
    )


def _fits(made: Plan) -> str:
    if not made.fits:
        return "may fit" if made.may_fit else "no"
    return "yes" if made.fits_as_written else "fused"
