"""What the article "Transformers FLOPS and memory usage" got wrong: claim, executed truth, reason.

What the article says is quoted, or its own formula evaluated; every other number is executed.
"""

from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from counting import trace
from counting.views import matmul
from minigpt.claims import Claim, hold, n
from minigpt.config import GPT2_SIZES
from minigpt.formula_text import plain, si
from minigpt.formulas import B, Formulas, H, L, N, T, formulas
from minigpt.hardware import RTX_3060
from minigpt.measure import component, forward
from minigpt.published import PUBLISHED

XL = GPT2_SIZES["gpt2-xl"]
CONTEXT = XL.n_positions
SAID = [row for row in PUBLISHED if row.source == "article"]


class Correction(NamedTuple):
    """A claim of the article in its words, what execution gives instead, and why they differ."""

    claim: str
    truth: str
    reason: str


def markdown() -> str:
    """The corrections as the README's table."""
    rows = [("claim", "executed truth", "reason"), ("---",) * 3, *corrections()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def corrections() -> list[Correction]:
    """Every claim that execution contradicts: GPT-2 XL, a token with `n` keys, 16-bit elements."""
    claims = hold(XL, "gpt2-xl", [(1, 0), (1, CONTEXT - 1)], SAID)
    llama = _llama() if find_spec("minigpt.llama") else []
    return [*_operations(claims), *_hardware(claims), *_memory(claims), *llama]


def _operations(claims: list[Claim]) -> list[Correction]:
    headline, head, full = (
        _find(claims, *at) for at in (("headline", 1), ("eq. 8", 1), ("headline", CONTEXT))
    )
    qk, weights, av, heads = (
        _find(claims, f"eq. 4: {line}") for line in ("q kᵀ", "softmax of", "softmax(…) v", "all")
    )
    block, table = _find(claims, "eq. 7: block, rounded", CONTEXT), _find(claims, "table: FLOP")
    forms = formulas(XL, dtype="float16")
    position = _find(claims, "position embedding")
    return [
        Correction(
            "`24 L d² + 2 V d²` FLOP a token (headline, eq. 9)",
            f"`{headline.executed_form}`: {si(headline.executed)} at one key, "
            f"{si(full.executed)} at {CONTEXT}; the formula is off by a factor "
            f"{headline.value / headline.executed:.0f}",
            _why(headline),
        ),
        Correction("`2 d² V` in the final layer (eq. 8)", f"`{head.executed_form}`", _why(head)),
        Correction(
            "an element of a matrix product takes n additions and n-1 multiplications",
            _dot_product(),
            "n products, and their sum: the other way round",
        ),
        Correction("`q kᵀ = 2 d_k` a head", f"`{qk.executed_form}`", _why(qk)),
        Correction(
            "`softmax(q kᵀ / √d_k) = 2 d_k` a head",
            f"`{weights.executed_form}`: {_softmax(forms)}; and the scale, "
            f"{_scale(forms)} multiplications",
            "softmax runs over the scores of n keys, not over d_k numbers",
        ),
        Correction("`softmax(…) v = 2 d_model` a head", f"`{av.executed_form}`", _why(av)),
        Correction(
            "`4 d_model + 2 d_model n_heads` in all heads",
            f"`{_both_products(forms)}` in both products; `{heads.executed_form}` with softmax",
            "each head has d_k columns of v, and n keys",
        ),
        Correction(
            "a block is `24 d²`",
            f"`{block.executed_form}`: {_added(block):.1f} % more at {CONTEXT} keys",
            f"true only while n is far below 6 d = {6 * XL.n_embd}",
        ),
        Correction(
            "position embedding is a lookup",
            f"`{position.executed_form}` additions a token",
            "the row that is looked up is added",
        ),
        Correction(
            "0.260T FLOP a token for GPT-2 XL (table)",
            f"{si(table.executed)} at one key: "
            f"the table is off by a factor {table.value / table.executed:.0f}",
            "evaluated from the headline formula",
        ),
    ]


def _hardware(claims: list[Claim]) -> list[Correction]:
    sparse, dense, without = (
        RTX_3060.flops[kind]
        for kind in (
            "fp16 tensor, fp16 accumulate, sparse",
            "fp16 tensor, fp32 accumulate",
            "fp32",
        )
    )
    step = forward(XL, dtype=np.float16).counts
    read = step.bytes_read["weights"] + step.bytes_read["kv_cache"]
    reading, computing = read / RTX_3060.bandwidth, matmul(step) / dense
    return [
        Correction(
            "an RTX 3060 does 101 TFLOPS in FP16",
            f"{dense / 1e12:.1f} dense with fp32 accumulation, "
            f"{without / 1e12:.2f} without tensor cores",
            f"{sparse / 1e12:.0f} is with 2:4 sparse weights and fp16 accumulation "
            f"({RTX_3060.source})",
        ),
        Correction(
            "101 / 4.307 ≈ 23 tokens a second",
            f"a token of GPT-2 XL takes {1e3 * reading:.2f} ms to read its {si(read)}B at "
            f"{RTX_3060.bandwidth / 1e9:.0f} GB/s, and {1e3 * computing:.2f} ms of arithmetic: "
            f"at most {1 / reading:.0f} tokens a second",
            "decoding one sequence is bound by memory bandwidth, not by arithmetic",
        ),
    ]


def _memory(claims: list[Claim]) -> list[Correction]:
    kv, parameters = (_find(claims, where) for where in ("table: KV", "draft"))
    sequence = CONTEXT * kv.executed
    said = 9e9  # the article's 12GB without 3GB of weights
    prefill = forward(XL, 1, CONTEXT, dtype=np.float16).peak["activations"]
    return [
        Correction(
            "0.307GB of KV cache for 1000 tokens of GPT-2 XL",
            f"{1000 * kv.executed / 1e9:.4f} GB: right, `{kv.executed_form}` bytes a token",
            "every head has keys and values of its own",
        ),
        Correction(
            "9GB / 0.307GB ≈ 30k tokens can be cached",
            f"{said // sequence:.0f} sequences of its context, {CONTEXT} tokens: "
            f"{si(sequence)}B each",
            f"activations ({si(prefill)}B for a whole prompt) and the CUDA context need room too",
        ),
        Correction(
            "1.542B parameters",
            f"{parameters.executed:,}",
            f"`{parameters.executed_form}`, the head tied to the token table",
        ),
    ]


def _llama() -> list[Correction]:
    """What the article's tables say of Llama 3.1, executed at one key."""
    from minigpt.llama import Llama
    from minigpt.llama_config import LLAMA_SIZES

    told = []
    for name, flop, cache in (("8B", "4.307T", "0.524GB"), ("405B", "69.53T", "8.25GB")):
        config = LLAMA_SIZES[f"llama-3.1-{name.lower()}"]
        counts = forward(config, dtype=np.float16, architecture=Llama).counts
        kv = 1000 * counts.bytes_written["kv_cache"]
        heads = f"{config.num_key_value_heads} key-value heads for {config.num_attention_heads}"
        told += [
            Correction(
                f"{flop} FLOP a token for Llama 3.1 {name} (table)",
                f"{si(matmul(counts))} at one key",
                f"the headline formula; and {heads}, SwiGLU, {config.vocab_size} tokens",
            ),
            Correction(
                f"{cache} of KV cache for 1000 tokens of Llama 3.1 {name}",
                f"{kv / 1e9:.3f} GB",
                f"grouped-query attention: {heads}",
            ),
        ]
    weights = 2 * LLAMA_SIZES["llama-3.1-8b"].parameters
    told.append(
        Correction(
            "an RTX 3060 runs Llama 3.1 8B at 23 tokens a second",
            f"{si(weights)}B of 16-bit weights do not fit its {si(RTX_3060.memory)}B",
            "and read once a token they alone take "
            f"{1e3 * weights / RTX_3060.bandwidth:.0f} ms at its bandwidth",
        )
    )
    return told


def _find(claims: list[Claim], where: str, keys: int = 1) -> Claim:
    return next(c for c in claims if c.n == keys and c.published.where.startswith(where))


def _why(claim: Claim) -> str:
    return "; ".join(claim.reasons)


def _added(claim: Claim) -> float:
    return 100 * float(claim.executed / claim.value - 1)


def _dot_product() -> str:
    cost = trace(lambda a, b: (a * b).sum(), (n,), (n,)).cost
    return f"{plain(cost['mul'])} multiplications and {plain(cost['add'])} additions"


def _softmax(forms: Formulas) -> str:
    """The operations of a softmax over the scores of n keys."""
    words = {
        "cmp": "comparisons",
        "add": "subtractions and additions",
        "exp": "exponentials",
        "div": "divisions",
    }
    cost = forms.counts.by(component)["softmax"].cost
    return ", ".join(f"{plain(_one_head(cost[kind]))} {word}" for kind, word in words.items())


def _one_head(entry: Any) -> Any:
    return (entry / (L * H)).subs({B: 1, T: 1, N: n - 1})


def _both_products(forms: Formulas) -> str:
    priced = forms.closed_forms["views"]["matmul"]["by_component"]
    return plain(H * _one_head(priced["qk"] + priced["av"]))


def _scale(forms: Formulas) -> str:
    return plain(_one_head(forms.counts.by(component)["qk"].cost["mul"]))
