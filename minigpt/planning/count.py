"""What one forward pass of any model costs, found by running it on shapes: no weights, no data."""

import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np

from counting import Counted, Counts, Ledger, ShapeArray, category
from counting.views import flops, matmul
from minigpt.checkpoint.resolve import resolve
from minigpt.commands.terminal import console
from minigpt.errors import InputError
from minigpt.models.architectures import build
from minigpt.models.config import Config
from minigpt.models.deepseek_config import DeepseekConfig
from minigpt.models.routing import Assumption, bound, expected, expected_experts, most_experts
from minigpt.planning.forward import Forward
from minigpt.schema import SCHEMA

# A run's dtype by name. bfloat16 is no NumPy dtype: a 16-bit one of the same size stands in.
DTYPES = {"float16": np.float16, "bfloat16": np.float16, "float32": np.float32}
DTYPES["float64"] = np.float64
LOGITS = ("all", "last")
CACHES = ("compressed", "expanded")
MOST = 2**40  # sequences: a side of an array must fit NumPy's integers


@lru_cache(maxsize=256)
def forward(
    config: Config,
    T: int = 1,
    N: int = 0,
    B: int = 1,
    *,
    logits: str = "all",
    dtype: str = "float16",
    cache: str = "compressed",
    assume: Assumption = expected,
) -> Forward:
    """One forward pass of T new tokens of each of B sequences after N cached, on shapes.

    Args:
        logits: "all" of the T positions, or those of the "last".
        dtype: of weights, cache and activations: one of `DTYPES`.
        cache: of DeepSeek's latent attention: "compressed" or "expanded".
        assume: which experts are met, see `routing`.

    Returns:
        The counts of the pass, and peak bytes by category, N + T positions reserved.

    Raises:
        InputError: a number or a name cannot be.
    """
    ledger, run = ready(config, T, N, B, logits, dtype, cache, assume)
    before = ledger.snapshot()
    run()
    return Forward(ledger.snapshot() - before, ledger.peak_bytes)


def ready(
    config: Config,
    T: int,
    N: int,
    B: int,
    logits: str,
    dtype: str,
    cache: str = "compressed",
    assume: Assumption = expected,
) -> tuple[Ledger, Callable[[], Any]]:
    """A ledger that holds weights and cache, and the pass of `forward` that is still to run."""
    _check(config, T, N, B, logits, dtype, cache)
    ledger, kind = Ledger(), np.dtype(DTYPES[dtype])
    with category("weights"):
        weights = {k: Counted(ShapeArray(s, kind), ledger) for k, s in config.shapes().items()}
    latent = isinstance(config, DeepseekConfig)
    model = build(config, weights, **({"cache": cache, "assume": assume} if latent else {}))
    held = model.new_cache(B, N + T)
    for layer in held.layers:
        layer.length = N
    return ledger, partial(model, ShapeArray((B, T), np.dtype(np.int64)), held, logits)


def _check(config: Config, T: int, N: int, B: int, logits: str, dtype: str, cache: str) -> None:
    for what, value, least in (("new tokens", T, 1), ("past", N, 0), ("batch", B, 1)):
        if value < least:
            raise InputError(f"{what} is {value}; it must be {least} or more")
    if B > MOST:
        raise InputError(f"batch is {B}; it must be {MOST} or less")
    if config.n_positions < N + T:
        raise InputError(
            f"{N} past and {T} new tokens are {N + T}; the model's context is {config.n_positions}"
        )
    for what, name, known in (
        ("dtype", dtype, tuple(DTYPES)),
        ("logits", logits, LOGITS),
        ("cache", cache, CACHES),
    ):
        if name not in known:
            raise InputError(f"unknown {what} {name!r}: it is one of {', '.join(known)}")
    if cache != "compressed" and not isinstance(config, DeepseekConfig):
        raise InputError(f"only DeepSeek's latent attention has an {cache} cache")


def count(
    model: str,
    new_tokens: int = 1,
    past: int = 0,
    batch: int = 1,
    dtype: str = "float16",
    logits: str = "all",
    cache: str = "compressed",
    config: Config | None = None,
) -> dict[str, Any]:
    """What one forward pass costs, in exact whole numbers: the document of `count --json`.

    Bytes are those of the run as it is written, operation by operation: each reads its operands
    and writes its result. Arithmetic intensity is FLOP a byte of that sum; kernels that fuse
    operations move fewer. A mixture of experts adds "experts": what was assumed, and the bound.

    Args:
        config: of `model`, where it is known already.

    Raises:
        InputError: see `resolve` and `forward`.
    """
    config = config or resolve(model)
    options: dict[str, Any] = {"logits": logits, "dtype": dtype, "cache": cache}
    counts, peak = forward(config, new_tokens, past, batch, **options)
    read, written = counts.bytes_read, counts.bytes_written
    found = {
        "schema": SCHEMA,
        "model": model,
        "new_tokens": new_tokens,
        "past": past,
        "batch": batch,
        "dtype": dtype,
        "logits": logits,
        "matmul_flops": matmul(counts),
        "flops": flops(counts),
        "kinds": counts.cost.by_kind(),
        "bytes_read": read,
        "bytes_written": written,
        "kv_bytes_per_token": written["kv_cache"] // (batch * new_tokens),
        "parameters": config.parameters,
        "weight_bytes": config.parameters * np.dtype(DTYPES[dtype]).itemsize,
        "peak_bytes": dict(peak),
        "peak_bytes_total": sum(peak.values()),
        "arithmetic_intensity": flops(counts) / sum((*read.values(), *written.values())),
    }
    if isinstance(config, DeepseekConfig):
        tokens = batch * new_tokens
        most = read["weights"]
        met = round(expected_experts(config, tokens)), most_experts(config, tokens)
        if met[0] != met[1]:
            run = forward(config, new_tokens, past, batch, assume=bound, **options)
            most = run.counts.bytes_read["weights"]
        found["cache"] = cache
        found["experts"] = {
            "counted": "expected",
            "of_each_layer": config.n_routed_experts,
            "met_by_a_token": config.num_experts_per_tok,
            "expected": {"met_in_each_layer": met[0], "weight_bytes_read": read["weights"]},
            "bound": {"met_in_each_layer": met[1], "weight_bytes_read": most},
        }
    return found


def component(path: str) -> str:
    """The part of the model that a path names, whichever layer or expert it is in."""
    inner = re.sub(r"^.*?\.\d+\.?", "", path) or "residual"
    return re.sub(r"\.\d+(?=\.)", "", inner)


def layer(path: str) -> str:
    """The layer that a path is in, or the path itself outside of any."""
    inside = re.match(r".*?\.\d+(?=\.|$)", path)
    return inside[0] if inside else path


def rows(counts: Counts, by: str) -> Iterator[tuple[str, Counts]]:
    """The parts of a run by "component", as an indented tree, by "layer" or by "op".

    Raises:
        InputError: `by` is something else.
    """
    if by == "component":
        yield from _tree(counts, component)
    elif by == "layer":
        yield from counts.by(layer).items()
    elif by == "op":
        for operation in dict.fromkeys(key[1] for key in counts):
            yield operation, counts.where(operation=operation)
    else:
        raise InputError(f"unknown grouping {by!r}: it is one of component, layer, op")


def _tree(
    counts: Counts, name: Callable[[str], str], depth: int = 0
) -> Iterator[tuple[str, Counts]]:
    def label(path: str) -> str:
        return [*name(path).split("."), ""][depth]

    for head, part in counts.by(label).items():
        if head:  # "" is what the row above does itself
            yield "  " * depth + head, part
            yield from _tree(part, name, depth + 1)


def run(
    model: str,
    new_tokens: int = 1,
    past: int = 0,
    batch: int = 1,
    dtype: str = "float16",
    logits: str = "all",
    cache: str | None = None,
    by: str | None = None,
    as_json: bool = False,
) -> None:
    """Prints what one forward pass costs: the `count` command.

    Args:
        cache: for DeepSeek alone, "compressed" if None; the others are as those of `count`.
        by: see `rows`; "component" if None.

    Raises:
        InputError: as `count` and `rows`; or a cache is chosen that the model does not have.
    """
    config = resolve(model)
    if cache is not None and not isinstance(config, DeepseekConfig):
        raise InputError(f"only DeepSeek's latent attention has a choice of --cache, not {model}")
    cache = cache or "compressed"
    found = count(model, new_tokens, past, batch, dtype, logits, cache, config)
    options: dict[str, Any] = {"logits": logits, "dtype": dtype, "cache": cache}
    counts = forward(config, new_tokens, past, batch, **options).counts
    parts = list(rows(counts, by or "component")) if by or not as_json else []
    if as_json:
        if by:
            found["by"] = [{by: name, **_figures(part)} for name, part in parts]
        print(json.dumps(found))
        return
    _print(found, counts, by or "component", parts)


def _figures(part: Counts) -> dict[str, int]:
    read, written = sum(part.bytes_read.values()), sum(part.bytes_written.values())
    return {
        "flops": flops(part),
        "matmul_flops": matmul(part),
        "bytes_read": read,
        "bytes_written": written,
    }


def _print(found: dict[str, Any], counts: Counts, by: str, parts: list[tuple[str, Counts]]) -> None:
    from rich.table import Table

    from counting.table import kinds

    out = console()
    out.print(
        f"{found['model']}: {found['new_tokens']} new token(s) after {found['past']}, batch "
        f"{found['batch']}, {found['dtype']}, {found['logits']} logits: "
        f"{found['flops']:,} FLOP, {found['matmul_flops']:,} of matrix products (2mnp)\n",
        markup=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in (by, "FLOP", "share", "2mnp", "bytes read", "bytes written"):
        table.add_column(column, justify="left" if column == by else "right", no_wrap=True)
    for name, part in (*parts, ("total", counts)):
        f = _figures(part)
        share = f"{f['flops'] / found['flops']:.1%}"
        moved = (f"{f[key]:,}" for key in ("matmul_flops", "bytes_read", "bytes_written"))
        style = "bold" if part is counts else None
        table.add_row(name, f"{f['flops']:,}", share, *moved, style=style)
    memory = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("memory", "bytes read", "bytes written", "peak"):
        memory.add_column(column, justify="left" if column == "memory" else "right")
    for name, peak in found["peak_bytes"].items():
        figures = found["bytes_read"][name], found["bytes_written"][name], peak
        memory.add_row(name, *(f"{n:,}" for n in figures))
    for made in (table, kinds(counts), memory):
        out.print(made, "")
    out.print(
        f"{found['parameters']:,} parameters, {found['weight_bytes']:,} bytes; "
        f"{found['kv_bytes_per_token']:,} bytes of KV cache a token; "
        f"{found['arithmetic_intensity']:.3g} FLOP a byte moved"
    )
    if experts := found.get("experts"):
        for assumption in ("expected", "bound"):
            told = experts[assumption]
            out.print(
                f"{assumption}: {told['met_in_each_layer']} of {experts['of_each_layer']} experts "
                f"met in each layer, {told['weight_bytes_read']:,} bytes of weights read"
            )
