"""The article's tables, made right: every figure but its own is from a run on shapes."""

from counting.views import matmul
from minigpt.formulas.claims import GPU
from minigpt.formulas.published import ARTICLE
from minigpt.models.architectures import PRESETS
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.options import Options
from minigpt.planning.plan import plan

Row = tuple[str, ...]


def models() -> list[Row]:
    """The models beside the article's figures, under their headings."""
    head: Row = ("model", "layers", "d", "vocabulary", "parameters")
    head += ("FLOP a token, 1 key", "at 1000 keys", "the article's FLOP")
    rows = [(*head, "KV of 1000 tokens", "the article's KV")]
    for name, flop, cache in ARTICLE.values():
        config = PRESETS[name]
        one, more = count(name), count(name, Pass(N=999))
        sizes = (config.layers, config.width, config.vocab_size, config.parameters)
        flops = (f"{matmul(found.counts) / 1e9:,.2f} G" for found in (one, more))
        kv = f"{one.kv_bytes_per_token * 1000 / 1e9:.3f} GB"
        rows.append((name, *(f"{n:,}" for n in sizes), *flops, flop, kv, cache))
    return rows


def gpu() -> list[Row]:
    """The models on the article's GPU, under their headings."""
    rows: list[Row] = [
        (f"on an {GPU.name}", "fits", "tokens it can cache", "a token at one key", "at most")
    ]
    for name, weights in (("gpt2-xl", None), ("llama-3.1-8b", None), ("llama-3.1-8b", "int8")):
        made = plan(name, PRESETS[name], GPU, Options(weights_dtype=weights))
        fits = "yes" if made.fits else f"no, {-made.spare / 1e9:.2f} GB too much"
        cached = f"{made.tokens_cached:,}"
        if made.fits:
            fits += f", {made.largest_batch} sequences of {made.context:,}"
        rate = f"{1 / made.first.seconds:,.0f} tokens/s"
        what = f"{name}, {made.weights_dtype} weights"
        rows.append((what, fits, cached, f"{1e3 * made.first.seconds:.2f} ms", rate))
    return rows
