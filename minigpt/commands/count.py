"""The `count` command: what one forward pass costs, as tables or as JSON."""

import json
from typing import Any

from counting import Counts
from counting.table import kinds, table
from counting.views import flops, matmul
from minigpt.checkpoint.headers import stored
from minigpt.commands.stored import stored_document, stored_lines
from minigpt.commands.terminal import console
from minigpt.planning.count import Count, count
from minigpt.planning.forward import Pass
from minigpt.schema import SCHEMA


def run(
    model: str,
    sizes: Pass = Pass(),  # noqa: B008
    by: str | None = None,
    as_json: bool = False,
) -> None:
    """Prints what one forward pass costs: the `count` command.

    Args:
        by: see `count.rows`; "component" if None, and not in the JSON.

    Raises:
        InputError: see `count` and `count.rows`.
    """
    found = count(model, sizes)
    held = stored(model, found.config)
    if as_json:
        print(json.dumps({**document(found, by), **stored_document(held)}))
    else:
        _print(found, by or "component", stored_lines(held))


def document(found: Count, by: str | None = None) -> dict[str, Any]:
    """A count as `count --json` prints it, but for `stored`; with its parts if `by` is given."""
    sizes, counts, experts = found.sizes, found.counts, found.experts
    told: dict[str, Any] = {
        "schema": SCHEMA,
        "model": found.model,
        **sizes.as_dict(),
        "matmul_flops": matmul(counts),
        "flops": flops(counts),
        "kinds": counts.cost.by_kind(),
        "bytes_read": counts.bytes_read,
        "bytes_written": counts.bytes_written,
        "kv_bytes_per_token": found.kv_bytes_per_token,
        "kv_bytes_held": found.kv_bytes_held,
        "kv_bytes_if_each_layer_keeps_all": found.kv_bytes_kept,
        "state_bytes": found.state_bytes,
        "parameters": found.config.parameters,
        "weight_bytes": found.weight_bytes,
        "peak_bytes": found.peak_bytes,
        "peak_bytes_total": sum(found.peak_bytes.values()),
        "arithmetic_intensity": found.arithmetic_intensity,
    }
    if found.config.latent_cache:
        told["cache"] = sizes.cache or "compressed"
    if experts:
        told["experts"] = {
            "counted": "expected",
            **experts._asdict(),
            "expected": experts.expected._asdict(),
            "bound": experts.bound._asdict(),
        }
    if by:
        told["by"] = [{by: name, **_figures(part)} for name, part in found.rows(by)]
    return told


def _figures(part: Counts) -> dict[str, int]:
    return {
        "flops": flops(part),
        "matmul_flops": matmul(part),
        "bytes_read": sum(part.bytes_read.values()),
        "bytes_written": sum(part.bytes_written.values()),
    }


def _print(found: Count, by: str, held: list[str]) -> None:
    counts = found.counts
    parts = table(by, "FLOP", "share", "2mnp", "bytes read", "bytes written")
    for name, part in (*found.rows(by), ("total", counts)):
        total, *others = _figures(part).values()
        cells = f"{total:,}", f"{total / flops(counts):.1%}", *(f"{n:,}" for n in others)
        parts.add_row(name, *cells, style="bold" if part is counts else None)
    memory = table("memory", "bytes read", "bytes written", "peak")
    for name, peak in found.peak_bytes.items():
        figures = counts.bytes_read[name], counts.bytes_written[name], peak
        if any(figures):  # else there is nothing of that category
            memory.add_row(name, *(f"{n:,}" for n in figures))
    out = console()
    out.print(
        f"{found.model}: {found.sizes.in_words}: {flops(counts):,} FLOP, "
        f"{matmul(counts):,} of matrix products (2mnp)\n"
    )
    for made in (parts, kinds(counts), memory):
        out.print(made, "")
    out.print(
        f"{found.config.parameters:,} parameters, {found.weight_bytes:,} bytes; "
        f"{found.kv_bytes_per_token:,} bytes of KV cache a token; "
        f"{found.arithmetic_intensity:.3g} FLOP a byte moved"
    )
    for line in held:
        out.print(line)
    if found.kv_bytes_held < found.kv_bytes_kept:
        out.print(
            f"{found.kv_bytes_held:,} bytes of KV cache after the pass: layers with a window hold "
            f"no more than it; {found.kv_bytes_kept:,} where each layer keeps all"
        )
    if found.state_bytes:
        out.print(
            f"{found.state_bytes:,} bytes of state, after one token as after many: what layers of "
            "linear attention keep in the place of keys and values"
        )
    if found.experts:
        for name in ("expected", "bound"):
            met = getattr(found.experts, name)
            out.print(
                f"{name}: {met.met_in_each_layer} of {found.experts.of_each_layer} experts met in "
                f"each layer, {met.weight_bytes_read:,} bytes of weights read"
            )
