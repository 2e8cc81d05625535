"""The article on floating point operations, answered by executing the models."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from counting import ShapeArray, trace
from counting.views import flops, matmul
from minigpt.formulas.article.answer import (
    CONTEXT,
    LLAMAS,
    XL,
    Answer,
    a_block,
    a_head,
    claim,
    condition,
    form,
    forms,
    percent,
    right,
    token,
    why,
    wrong,
)
from minigpt.formulas.closed_forms import L
from minigpt.formulas.figures import part_of
from minigpt.formulas.notation import plain, si
from minigpt.formulas.published import ARTICLE
from minigpt.models.architectures import PRESETS
from minigpt.models.ops import merge_heads

WEIGHTS = ("qkv", "out", "mlp", "head")
KV = ("self_attn.k_proj", "self_attn.v_proj")


def what_is_counted() -> Answer:
    one, full = token(XL), token(XL, CONTEXT)
    return condition(
        f"of all operations of GPT-2 XL its formulas leave out "
        f"{percent(flops(one) - matmul(one), flops(one))} at one key and "
        f"{percent(flops(full) - matmul(full), flops(full))} at {CONTEXT}: norms, softmax, GELU, "
        "biases and residuals",
        "all that matter for a matrix unit: the matrix products",
        "I count all the floating point operations that happen during the forward pass.",
    )


def with_a_cache() -> Answer:
    return right(
        f"products with weights are {form(*WEIGHTS)}, however many keys the cache holds",
        "with a cache, earlier tokens pass through no weights again",
        "[^ Assuming that we have a kv cache, I'm calculating the FLOP for a single new token.",
    )


def headline() -> Iterator[Answer]:
    found, full = claim("headline"), claim("headline", CONTEXT)
    yield wrong(
        f"`{found.executed_form}`: {si(found.executed)}FLOP at one key, {si(full.executed)}FLOP "
        f"at {CONTEXT}, for GPT-2 XL; its formula is {found.value / found.executed:.0f} times that",
        why(found),
        r"24.n_{layers}.d_{model}^2 + 2.d_{vocab}.d_{model}^2",
        r"24.d_{model}^2.n_{layers} + 2.d_{model}^2.d_{vocab} \tag{9}",
    )


def sub_blocks() -> Answer:
    return right(
        f"{form('norms', per=L)} FLOP of matrix products in the norms, "
        f"{form('qkv', 'qk', 'av', 'out', per=L)} in attention, {form('mlp', per=L)} in the "
        "feed-forward block",
        "and around each a norm and a residual addition, which it names later",
        "A transformer block consists of two sub-blocks, a multi-headed attention block "
        "and a feed forward block",
    )


def a_block_of_gpt2() -> Iterator[Answer]:
    """The parts of a block, in the article's order."""
    yield right(
        f"`{claim('eq. 2').executed_form}` for q of a head",
        "2mnp of (1, d) by (d, d_k), and d_k = d / H",
        r"2d_{model}d_{k} = \frac{2d_{model}^2}{n_{head}} \tag{2}",
    )
    shares = (
        f"{a_block(config, 'self_attn.q_proj'):g} d² for q and {a_block(config, *KV):g} d² for k "
        f"and v in Llama 3.1 {name}"
        for name, config in LLAMAS.items()
    )
    yield condition(
        "; ".join(shares),
        "true of a head, and of all heads in GPT-2; with grouped queries "
        + " and ".join(_groups(config) for config in LLAMAS.values()),
        "The same number of FLOP are required to calculate k and v.",
        r"3.\frac{2d_{model}^2}{n_{head}} = \frac{6d_{model}^2}{n_{head}}",
    )
    yield right(
        f"{form('qkv', per=L)} for q, k and v of all heads",
        "each head of GPT-2 has a q, a k and a v of its own",
        r"6d_{model}^2 \tag{3}",
    )
    yield from _scores()
    yield from _linear_layers()
    yield from _whole_block()


def _scores() -> Iterator[Answer]:
    qk, soft, av, head, heads = (
        claim(f"eq. 4: {line}") for line in ("q kᵀ", "softmax of", "softmax(…) v", "a head", "all")
    )
    yield wrong(
        f"`{qk.executed_form}` a head",
        f"{why(qk)}; the same at one key only",
        r"qk^T = 2.d_{k} = \frac{2.d_{model}}{n_{heads}} \quad \text{FLOP}   \\",
    )
    kinds = {"cmp": "comparisons", "add": "subtractions and additions", "exp": "exponentials"}
    by_name = forms().counts.by(part_of)
    cost, scaled = by_name["softmax"].cost, by_name["qk"].cost["mul"]
    kinds["div"] = "divisions"
    told = ", ".join(f"{plain(a_head(cost[kind]))} {word}" for kind, word in kinds.items())
    yield wrong(
        f"`{soft.executed_form}` a head: {told}; and for 1 / √d_k {plain(a_head(scaled))} "
        "multiplications",
        "softmax runs over the scores of n keys, not over d_k numbers",
        r"softmax\left( \frac{qk^T}{\sqrt{d_k}}\right) = "
        r"2.d_{k} = \frac{2.{d_{model}}}{n_{heads}} \quad \text{FLOP}  \\",
    )
    yield wrong(
        f"`{av.executed_form}` a head",
        f"{why(av)}; a head's values are d_k wide, and there are n of them",
        r"softmax\left( \frac{qk^T}{\sqrt{d_k}}\right).v = 2.d_{model} \quad \text{FLOP} \\",
    )
    yield wrong(
        f"`{head.executed_form}` a head; in all heads `{heads.executed_form}`, "
        f"{form('qk', 'av', per=L)} of it in the two products",
        "the sum of the three lines before",
        r"\text{Total FLOP in a single attention head} = "
        r"\frac{4.d_{model}}{n_{heads}} + 2.d_{model} \tag{4} \\",
        r"\text{Total FLOP with all the attention heads} = 4.d_{model} + 2.d_{model}.n_{heads}",
    )


def _linear_layers() -> Iterator[Answer]:
    heads = (1, XL.n_head, 1, XL.head_dim)
    merged = trace(merge_heads, heads)
    out = ", ".join(map(str, merge_heads(ShapeArray(heads, np.float16)).shape[1:]))
    weight = XL.shapes()["h.0.attn.c_proj.weight"]
    yield right(
        f"{flops(merged)} FLOP; the result is ({out}), the linear layer's weight {weight}",
        "concatenation moves bytes and computes nothing",
        "Concatenation does not involve any matrix multiplications.",
        r"The output of the concatenation is a $\mathbb{R}^{1xd_{model}}$ vector.",
        r"The linear layer is a $\mathbb{R}^{d_{model}xd_{model}}$ matrix.",
    )
    counts = token(XL)
    biases = sum(
        counts.where(f"*.{module}").total("add")
        for module in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    )
    yield right(
        f"{biases:,} additions of biases a token in GPT-2 XL, {percent(biases, flops(counts))} of "
        "all operations",
        "GPT-2's linear layers do have biases; Llama's have none",
        "[^ Assuming the linear layers have zero bias. "
        "Even if they don't, they will not contribute significantly to the FLOP count]",
    )
    yield right(
        f"`{claim('eq. 5').executed_form}`", "2mnp of (1, d) by (d, d)", r"2.d_{model}^2 \tag{5}"
    )
    yield condition(
        "; ".join(_feed_forward(name, config) for name, config in LLAMAS.items()),
        "true of GPT-2; Llama's SwiGLU has three matrices, narrower than 4 d",
        "The feed-forward layer consists of two linear layers.",
        r"The first layer is a $ \mathbb{R}^{d_{model}x4d_{model}}$ matrix",
    )
    yield right(
        f"`{claim('eq. 6').executed_form}`",
        "GPT-2's is 4 d wide",
        r"2.4.d_{model}^2 + 2.4.d_{model}^2 = 16.d_{model}^2 \tag{6}",
    )


def _whole_block() -> Iterator[Answer]:
    block = claim("eq. 7: block, rounded", CONTEXT)
    more = 100 * float(block.executed / block.value - 1)
    whole = (
        f"{a_block(config, 'self_attn.*_proj', 'mlp.*'):.4g} d² in Llama 3.1 {name}"
        for name, config in LLAMAS.items()
    )
    yield condition(
        f"`{block.executed_form}`: {more:.1f} % more at {CONTEXT} keys in GPT-2 XL; without "
        f"attention's products it is {' and '.join(whole)}",
        f"while n is far below 6 d = {6 * XL.width}; and of GPT-2",
        r"6.d_{model}^2 + 4.d_{model} + 2.d_{model}.n_{heads} + 2.d_{model}^2 + 16.d_{model}^2"
        r"  \approx 24.d_{model}^2 \tag{7}",
    )
    llama = LLAMAS["8B"]
    long = token(llama, llama.n_positions)
    attended = matmul(long.where("*.qk")) + matmul(long.where("*.av"))
    yield condition(
        f"its coefficient is {form('qk', 'av', per=L)[1:-1].replace(' d', '')}, not a constant: at "
        f"the {llama.n_positions:,} keys of Llama 3.1 8B's context attention's products take "
        f"{si(attended)}FLOP, {attended / (matmul(long) - attended):.1f} times all the others",
        "true of a d that is large beside n / 6",
        "When $d_{model}$ is sufficiently large, $d_{model}^2$ term dominates, "
        "so we can ignore all the terms with the $d_{model}$ coefficient.",
    )
    counts = token(XL)
    norms = flops(counts.where("*ln_*")) + sum(
        flops(counts.where(f"h.{i}")) for i in range(XL.layers)
    )
    yield right(
        f"{form('norms', 'residual', view='all')} operations, {percent(norms, flops(counts))} of "
        "all in GPT-2 XL",
        "linear in d, and small",
        "I have ignored the layernorm calculation and the residual calculation. These calculations "
        "would also be a constant factor times $d_{model}$ and will be sufficiently small.",
    )


def other_layers() -> Iterator[Answer]:
    tied, head = XL.tie_word_embeddings, claim("eq. 8")
    yield condition(
        f"GPT-2's last layer is {'the token table itself' if tied else 'a matrix of its own'}, "
        f"shape {XL.shapes()['wte.weight']} in GPT-2 XL, and before it is one more norm",
        "true of GPT-2 but for parameters: that layer adds none. Llama has no position embedding: "
        "it turns queries and keys",
        "The transformer model consists of token embedding, position embedding, $n_{layers}$ of "
        r"transformer blocks and a final linear layer which has $\mathbb{R}^{d_{model}xd_{vocab}}$ "
        "parameters.",
    )
    yield right(
        f"{form('embed')} FLOP of matrix products, and {form('embed', view='all')} additions of "
        "the position's row to the token's",
        "a lookup reads a row; adding the two is left out, as norms and residuals are",
        "Token and position embeddings are lookups, so there is no matrix multiplication.",
    )
    yield wrong(f"`{head.executed_form}`", why(head), r"2.d_{model}^2.d_{vocab} \tag{8}")


def table() -> Iterator[Answer]:
    """The table of FLOP: its sizes, then its last column."""
    models: dict[str, Any] = {"GPT-2 XL": XL}
    models |= {f"Llama 3.1 {name}": config for name, config in LLAMAS.items()}
    yield right(
        "; ".join(
            f"{name}: {c.layers} layers, d = {c.width}, {c.parameters:,} parameters"
            for name, c in models.items()
        ),
        "the configurations that run here; names round the parameters, 1.55B down",
        "The transformer model has $n_{layers}$ number of transformer blocks.",
        "GPT2 XL (1.55B) & 48 & 1600 & 50257",
        "Llama 3.1(8B) & 32 & 4096",
        "Llama 3.1(405B) & 126 & 16384",
    )
    yield _evaluated("GPT-2 XL", 50257)
    yield wrong(
        f"a vocabulary of {LLAMAS['8B'].vocab_size:,}",
        "tokens for text and the special ones; logits are made for all",
        "32 & 4096 & 128000",
        "126 & 16384 & 128000",
    )
    yield _evaluated("Llama 3.1 8B", 128000)
    yield _evaluated("Llama 3.1 405B", 128000)


def _evaluated(name: str, vocabulary: int) -> Answer:
    """A row of the table: its vocabulary and its FLOP."""
    model, said, _ = ARTICLE[name]
    config = PRESETS[model]
    one, full = matmul(token(config)), matmul(token(config, CONTEXT))
    formula = (24 * config.layers + 2 * vocabulary) * config.width**2
    return wrong(
        f"{si(one)}FLOP for {name} at one key, {si(full)}FLOP at {CONTEXT}; {said} is "
        f"{float(said[:-1]) * 1e12 / one:.0f} times the first",
        f"its formula (9), which gives {formula / 1e12:.4g}T",
        f"{vocabulary} & {said}",
    )


def _groups(config: Any) -> str:
    return f"{config.num_attention_heads} heads share {config.num_key_value_heads} keys and values"


def _feed_forward(name: str, config: Any) -> str:
    shapes = [shape for key, shape in config.shapes().items() if ".layers.0.mlp." in key]
    wide = config.intermediate_size
    return (
        f"Llama 3.1 {name}: {len(shapes)} matrices, {wide} = {wide / config.hidden_size:g} d wide, "
        f"{a_block(config, 'mlp.*'):g} d² FLOP"
    )
