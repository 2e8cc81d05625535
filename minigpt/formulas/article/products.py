"""The article on matrix products, shapes and attention, answered by running them."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy

from counting import ShapeArray, scalars, trace
from counting.views import exact, matmul
from minigpt.formulas.article.answer import LLAMAS, XL, Answer, condition, percent, right, wrong
from minigpt.formulas.claims import n
from minigpt.formulas.notation import plain
from minigpt.models.architectures import PRESETS
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.ops import attention

d, d_k, m, n_s, p = sympy.symbols("d d_k m n_s p", integer=True, positive=True)


def products() -> Iterator[Answer]:
    """Matrix products: their shapes and what they cost."""
    rows, columns = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
    product = rows @ columns
    yield right(
        f"{_shape(rows)} by {_shape(columns)} gives {_shape(product)}, {product.size} elements",
        "executed by NumPy",
        "A is a $2x3$ matrix and B is a $3x4$ matrix. "
        "The product of A and B will have $2x4$ elements.",
    )
    general = _shapes((m, n), (n, p))
    yield right(
        f"{_shape(_shapes((m, n)))} by {_shape(_shapes((n, p)))} gives {_shape(general)}",
        "run on shapes whose dimensions are symbols",
        "when a matrix of dimensions $ mxn $ is multiplied with a matrix of dimensions $nxp$, "
        "the product is a $mxp$ dimensional matrix",
    )
    tally: Counter[str] = Counter()
    first = (scalars(rows, tally)[0] * scalars(columns, tally)[:, 0]).sum()
    equal = "=" if float(first) == product[0, 0] else "not"
    yield right(
        f"{tally['mul']} multiplications and {tally['add']} additions; "
        f"{float(first):g} {equal} {product[0, 0]:g} of NumPy",
        "executed on numbers that count their own operations",
        "a_{00}.b_{00} + a_{01}.b_{10} + a_{02}.b_{20}",
        "Notice that there are 3 multiplication operations and 2 addition operations.",
    )
    one = trace(lambda a, b: (a * b).sum(), (n,), (n,)).cost
    yield wrong(
        f"{plain(one['mul'])} multiplications and {plain(one['add'])} additions",
        "the other way round: n products, and their sum",
        "there are $n$ additions and $n-1$ multiplications "
        "to calculate one element in the product matrix",
    )
    total = one["mul"] + one["add"]
    width = XL.n_embd
    yield right(
        f"{plain(total)}; at n = {width}, the width of GPT-2 XL, 2n is "
        f"{percent(2 * width - total.subs(n, width), total.subs(n, width))} more",
        "it says ≈, and n is large",
        r"n + (n-1) \approx 2n",
    )
    counts = trace(np.matmul, (m, n), (n, p))
    yield right(
        f"`{plain(counts.total('dots'))}` elements, `{plain(matmul(counts))}` operations; or "
        f"`{plain(exact(counts))}` if each element's first product is added to nothing",
        "the convention of every later figure: a multiply-add is two operations",
        "Since there are 8 elements in $AxB$ and $mxp$ elements in the general case",
        r"\approx (2n)*m*p = 2mnp \tag{1}",
    )


def shapes() -> Iterator[Answer]:
    """A token's query, key and value."""
    config, heads = XL, XL.n_head
    width, head = config.n_embd, config.head_dim
    weight = config.shapes()["h.0.attn.c_attn.weight"]
    embedded = ShapeArray(config.shapes()["wte.weight"], np.float16)[np.zeros(1, np.int64)]
    yield right(
        f"a token of GPT-2 XL is {_shape(embedded)}; its `c_attn` {weight} holds the "
        f"{weight[1] // (heads * head)} matrices ({width}, {head}) of each of {heads} heads",
        "side by side, so that one product gives all of them",
        r"t_{e}: &\text{Token embedding} \quad (\mathbb{R}^{1xd_{model}})\\",
        r"\text{ Query, Key and Value matrices} \quad (\mathbb{R}^{d_{model}xd_{k}})\\",
    )
    r1: Any = PRESETS["deepseek-r1"]
    keys = r1.qk_nope_head_dim + r1.qk_rope_head_dim
    llama = LLAMAS["8B"]
    of_llama = llama.blocks[0]["mixer"]["heads"]
    yield condition(
        f"{width} / {heads} = {head} in GPT-2 XL, {llama.hidden_size} / "
        f"{llama.num_attention_heads} = {of_llama.D} in Llama 3.1 8B; in DeepSeek R1 "
        f"{r1.hidden_size} / {r1.num_attention_heads} = "
        f"{r1.hidden_size // r1.num_attention_heads}, but queries and keys of {keys} and values of "
        f"{r1.v_head_dim}",
        "typical, as it says, not general; nor need a head's keys and values be equally wide",
        r"d_{k}: &\text{Key,Query and Value matrix dimension per head "
        r"in the multi-headed attention block} \\",
        r"d_{k} = \frac{d_{model}}{n_{heads}}",
    )
    W, t = np.zeros((width, head)), np.zeros((1, width))
    yield wrong(
        f"{_refused(W, t.T)}; t_e W_Q is {_shape(t @ W)}, W_Qᵀ t_eᵀ {_shape(W.T @ t.T)}",
        "the shapes that the article gives do not conform in this order; the cost (2) is that "
        "of the order which does",
        "q = W_{Q}t_{e}^{T}",
    )


def attention_of_a_sequence() -> Iterator[Answer]:
    """What the section on the KV cache says of attention."""
    yield right(
        f"{_other_logits(changed=0)} if the first token is another; "
        f"{_other_logits(changed=-1)} if the last is",
        "logits of a small GPT-2 with random weights: a token looks at itself and back",
        "In an autoregressive model like GPT-2, the next token depends on the previous tokens.",
    )
    made = np.random.default_rng(0).standard_normal((3, 6, 4))
    (Q, K, V), scale = made, made.shape[-1] ** -0.5
    causal = attention(Q, K, V, np.tril(np.ones((6, 6), bool)), scale)
    scores = Q @ K.T / math.sqrt(K.shape[1])
    soft = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    full = attention(Q, K, V, np.ones((6, 6), bool), scale)
    last = attention(Q[-1:], K, V, np.ones((1, 6), bool), scale)
    yield right(
        f"softmax(Q Kᵀ / √d_k) V by hand and as the model runs it {_agree(full, soft @ V)}; "
        "the last token's row of the whole, causal, and that of its q alone against all of K and "
        f"V {_agree(causal[-1:], last)}",
        "which is why a KV cache can work; Q, K and V have a row for each token",
        r"Attention(Q,K,V) = softmax \left( \frac{QK^T}{\sqrt{d_k}}\right).V",
        r"attention = softmax\left(\frac{qk^T}{\sqrt{d_k}}\right).v \\",
    )
    as_written = trace(lambda q, k: q @ k.T, (d, n_s), (d, n_s))
    rows = trace(lambda q, k: q @ k.T, (n_s, d_k), (n_s, d_k))
    yield wrong(
        f"Q Kᵀ is then {_shape(_shapes((d, n_s), (n_s, d)))} for "
        f"`{plain(matmul(as_written))}` FLOP: features by features, linear in n_s",
        f"a head's Q and K are {_shape(_shapes((n_s, d_k)))}, its scores "
        f"{_shape(_shapes((n_s, d_k), (d_k, n_s)))}, for `{plain(matmul(rows))}` FLOP",
        "$Q$,$K$ and $V$ are matrices of dimensions $d_{model}xn_s$",
    )


def _shapes(*matrices: tuple[Any, ...]) -> Any:
    """The product of matrices, run on their shapes."""
    first, *others = (ShapeArray(shape, np.float32) for shape in matrices)
    for other in others:
        first = first @ other
    return first


def _shape(x: Any) -> str:
    return f"({', '.join(map(str, x.shape))})"


def _refused(a: Any, b: Any) -> str:
    try:
        found = a @ b
    except ValueError as error:
        told = str(error).partition(",")[0].partition(": ")[2]
        return f"NumPy refuses {_shape(a)} by {_shape(b)} (“{told}”)"
    return f"{_shape(a)} by {_shape(b)} gives {_shape(found)}"


def _agree(a: Any, b: Any) -> str:
    return "agree" if np.allclose(a, b, rtol=1e-12) else "DIFFER"


def _other_logits(changed: int) -> str:
    """How many positions of a random model's logits change with the token at one position."""
    config = GPT2Config(vocab_size=7, n_positions=5, n_embd=8, n_layer=1, n_head=2)
    rng = np.random.default_rng(0)
    model = GPT2(config, {key: rng.standard_normal(s) for key, s in config.shapes().items()})
    tokens = np.arange(config.n_positions)[None]
    other = tokens.copy()
    other[0, changed] = config.vocab_size - 1
    one, two = (model(x, model.new_cache(1, config.n_positions), "all") for x in (tokens, other))
    differ = int((~np.isclose(one, two)).any(axis=-1).sum())
    return f"{differ} of {config.n_positions} positions change"
