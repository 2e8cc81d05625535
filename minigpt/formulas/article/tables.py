"""The article's tables, made right."""

from collections.abc import Sequence
from typing import Any

from minigpt.commands.plan import gigabytes
from minigpt.formulas.claims import GPU
from minigpt.models.architectures import PRESETS
from minigpt.planning.count import count
from minigpt.planning.plan import plan

# What the article says: FLOP a token, and bytes of cache of 1000 tokens.
ARTICLE = {"gpt2-xl": ("0.260T", "0.307GB"), "llama-3.1-8b": ("4.307T", "0.524GB")}
ARTICLE["llama-3.1-405b"] = ("69.53T", "8.25GB")

Row = tuple[str, ...]


def markdown() -> str:
    """The tables as Markdown, every figure but the article's own from a run on shapes."""
    return "\n\n".join(
        as_markdown([head, ("---",) * len(head), *rows]) for head, *rows in (_models(), _gpu())
    )


def document() -> list[list[dict[str, Any]]]:
    """The tables for JSON: rows by the names of their columns."""
    return [
        [dict(zip(head, row, strict=True)) for row in rows] for head, *rows in (_models(), _gpu())
    ]


def as_markdown(rows: Sequence[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _models() -> list[Row]:
    head: Row = ("model", "layers", "d", "vocabulary", "parameters")
    head += ("FLOP a token, 1 key", "at 1000 keys", "the article's FLOP")
    rows = [(*head, "KV of 1000 tokens", "the article's KV")]
    for name, (flop, cache) in ARTICLE.items():
        config = PRESETS[name]
        one, more = count(name), count(name, past=999)
        sizes = (config.layers, config.width, config.vocab_size, config.parameters)
        flops = (f"{found['matmul_flops'] / 1e9:,.2f} G" for found in (one, more))
        kv = f"{one['kv_bytes_per_token'] * 1000 / 1e9:.3f} GB"
        rows.append((name, *(f"{n:,}" for n in sizes), *flops, flop, kv, cache))
    return rows


def _gpu() -> list[Row]:
    rows: list[Row] = [
        (f"on an {GPU.name}", "fits", "tokens it can cache", "a token at one key", "at most")
    ]
    for name, weights in (("gpt2-xl", None), ("llama-3.1-8b", None), ("llama-3.1-8b", "int8")):
        made = plan(name, PRESETS[name], GPU, weights_dtype=weights)
        fits = "yes" if made.fits else f"no, {gigabytes(-made.spare)} too much"
        cached = f"{made.tokens_cached:,}"
        if made.fits:
            fits += f", {made.largest_batch} sequences of {made.context:,}"
        rate = f"{1 / made.first.seconds:,.0f} tokens/s"
        what = f"{name}, {made.weights_dtype} weights"
        rows.append((what, fits, cached, f"{1e3 * made.first.seconds:.2f} ms", rate))
    return rows
