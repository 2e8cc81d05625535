"""Formulas that papers, posts and programs publish for a transformer's cost, kept as data.

`minigpt verify` holds each against execution. To add one, add a row to `PUBLISHED`; its formula is
arithmetic in these letters, everything else has a default:

    L  layers                 n  keys that a token looks at, or the tokens of a sequence
    d  width of the model     V  tokens in the vocabulary
    H  heads                  C  positions of the context
    D  width of a head        P  parameters
    A  FLOP a second          W  bytes a second         M  bytes of memory     of the hardware

Elements are of 2 bytes wherever bytes are meant. Formulas for training are divided by 3: forward,
and twice that backward.
"""

from typing import Literal, NamedTuple


class Source(NamedTuple):
    """Where a formula was published."""

    title: str
    authors: str
    year: int
    url: str


class Published(NamedTuple):
    """A published formula and what it claims to be.

    Attributes:
        source: a key of `SOURCES`.
        where: equation, table or section, with the formula in the source's words where they differ.
        formula: in the letters above.
        of: what it prices, see `verify.MEASURES`; "flop" is of the components in `part`.
        part: components of the model, see `formulas.COMPONENTS`; all of them if empty.
        per: what the execution is divided by to be comparable: "L" for one layer.
        view: the convention that it claims to be in, see `counting.views`.
        scope: of one "token" at n keys, or of a whole "sequence" of n tokens.
        model: the only model that it is about.
    """

    source: str
    where: str
    formula: str
    of: str = "flop"
    part: tuple[str, ...] = ()
    per: str = "1"
    view: str = "matmul"
    scope: Literal["token", "sequence"] = "token"
    model: str | None = None


SOURCES = {
    "article": Source(
        "Transformers FLOPS and memory usage",
        "the post that this project grew from",
        2025,
        "",
    ),
    "kipply": Source(
        "Transformer Inference Arithmetic",
        "Carol Chen (kipply)",
        2022,
        "https://kipp.ly/transformer-inference-arithmetic/",
    ),
    "Kaplan": Source(
        "Scaling Laws for Neural Language Models",
        "Kaplan et al.",
        2020,
        "https://arxiv.org/abs/2001.08361",
    ),
    "PaLM": Source(
        "PaLM: Scaling Language Modeling with Pathways",
        "Chowdhery et al.",
        2022,
        "https://arxiv.org/abs/2204.02311",
    ),
    "Chinchilla": Source(
        "Training Compute-Optimal Large Language Models",
        "Hoffmann et al.",
        2022,
        "https://arxiv.org/abs/2203.15556",
    ),
    "Megatron": Source(
        "Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM",
        "Narayanan et al.",
        2021,
        "https://arxiv.org/abs/2104.04473",
    ),
    "nanoGPT": Source("nanoGPT", "Andrej Karpathy", 2023, "https://github.com/karpathy/nanoGPT"),
    "llm.c": Source("llm.c", "Andrej Karpathy", 2024, "https://github.com/karpathy/llm.c"),
    "Transformer Math": Source(
        "Transformer Math 101",
        "Anthony, Biderman, Schoelkopf (EleutherAI)",
        2023,
        "https://blog.eleuther.ai/transformer-math/",
    ),
    "cookbook": Source(
        "The Cookbook",
        "Anthony, Schoelkopf, Biderman (EleutherAI)",
        2024,
        "https://github.com/EleutherAI/cookbook",
    ),
    "scaling book": Source(
        "How to Scale Your Model",
        "Austin et al. (Google DeepMind)",
        2025,
        "https://jax-ml.github.io/scaling-book/inference/",
    ),
}

BLOCK = ("norms", "qkv", "qk", "softmax", "av", "out", "mlp", "residual")
ATTENTION = ("qk", "softmax", "av")

PUBLISHED = (
    Published("article", "headline and eq. 9", "24*L*d**2 + 2*V*d**2"),
    Published("article", "eq. 1: 2mnp, for q, k and v", "2*1*d*3*d", part=("qkv",), per="L"),
    Published("article", "eq. 2: q of a head", "2*d*D", part=("qkv",), per="3*L*H"),
    Published("article", "eq. 3: q, k and v", "6*d**2", part=("qkv",), per="L"),
    Published("article", "eq. 4: q kᵀ of a head", "2*D", part=("qk",), per="L*H"),
    Published(
        "article", "eq. 4: softmax of a head", "2*D", part=("softmax",), per="L*H", view="all"
    ),
    Published("article", "eq. 4: softmax(…) v of a head", "2*d", part=("av",), per="L*H"),
    Published("article", "eq. 4: a head", "4*D + 2*d", part=ATTENTION, per="L*H", view="all"),
    Published("article", "eq. 4: all heads", "4*d + 2*d*H", part=ATTENTION, per="L", view="all"),
    Published("article", "eq. 5: linear layer", "2*d**2", part=("out",), per="L"),
    Published("article", "eq. 6: feed-forward", "16*d**2", part=("mlp",), per="L"),
    Published(
        "article",
        "eq. 7: block, in full",
        "6*d**2 + 4*d + 2*d*H + 2*d**2 + 16*d**2",
        part=BLOCK,
        per="L",
    ),
    Published("article", "eq. 7: block, rounded", "24*d**2", part=BLOCK, per="L"),
    Published("article", "position embedding is a lookup", "0", part=("embed",), view="all"),
    Published("article", "eq. 8: final layer", "2*d**2*V", part=("head",)),
    Published("article", "eq. 10: KV bytes a token", "4*L*d", of="kv bytes"),
    Published("article", "model parameters: 2n bytes", "2*P", of="weight bytes"),
    Published("article", "table: FLOP of GPT-2 XL, 0.260T", "260*10**9", model="gpt2-xl"),
    Published("article", "table: FLOP of Llama 3.1 8B", "4307*10**9", model="llama-3.1-8b"),
    Published("article", "table: FLOP of Llama 3.1 405B", "69530*10**9", model="llama-3.1-405b"),
    Published(
        "article",
        "table: KV bytes of GPT-2 XL, 0.307GB for 1000",
        "307*10**6/1000",
        of="kv bytes",
        model="gpt2-xl",
    ),
    Published(
        "article",
        "table: KV bytes of Llama 3.1 8B, 0.524GB for 1000",
        "524*10**6/1000",
        of="kv bytes",
        model="llama-3.1-8b",
    ),
    Published(
        "article",
        "table: KV bytes of Llama 3.1 405B, 8.25GB for 1000",
        "8250*10**6/1000",
        of="kv bytes",
        model="llama-3.1-405b",
    ),
    Published(
        "article", "draft: 1.542B parameters", "1542*10**6", of="parameters", model="gpt2-xl"
    ),
    Published("kipply", "kv cache: 2 · 2 · L · H · D bytes", "2*2*L*d", of="kv bytes"),
    Published("kipply", "kv cache: FLOP of k and v", "2*2*L*d**2", part=("qkv",), per="3/2"),
    Published("kipply", "flops counting: 2 · 12 · L · d²", "24*L*d**2"),
    Published("kipply", "latency calculations: 2P FLOP", "2*P"),
    Published("kipply", "latency: 2P / FLOP a second", "2*P/A", of="arithmetic seconds"),
    Published("kipply", "latency: 2P / bytes a second", "2*P/W", of="reading seconds"),
    Published("kipply", "capacity: tokens beside 2P", "(M - 2*P)/(4*L*d)", of="tokens that fit"),
    Published("Kaplan", "2N, N = 12 L d² without embeddings", "2*12*L*d**2"),
    Published("Kaplan", "eq. 2.2: 2N + 2 L n d", "2*12*L*d**2 + 2*L*n*d"),
    Published("Kaplan", "table 1: attention, mask", "2*L*n*d", part=("qk", "av")),
    Published("Kaplan", "table 1: embed", "4*d", part=("embed",), view="all"),
    Published("Kaplan", "table 1: de-embed", "2*d*V", part=("head",)),
    Published("PaLM", "appendix B: (6N + 12LHQT) / 3", "2*(P - C*d) + 4*L*H*D*n"),
    Published(
        "Chinchilla",
        "appendix F: forward pass",
        "2*n*V*d + L*(6*n*d*H*D + 2*n**2*H*D + 3*H*n**2 + 2*n**2*H*D + 2*n*H*D*d + 16*n*d**2)"
        " + 2*n*d*V",
        scope="sequence",
    ),
    Published("Chinchilla", "appendix F: embeddings", "2*n*V*d", part=("embed",), scope="sequence"),
    Published(
        "Chinchilla",
        "appendix F: softmax",
        "3*H*n**2",
        part=("softmax",),
        per="L",
        view="all",
        scope="sequence",
    ),
    Published(
        "Megatron",
        "section 5.1: 96 B s L h² (1 + s/6h + V/16Lh), its forward pass",
        "24*n*L*d**2*(1 + n/(6*d) + V/(12*L*d))",
        scope="sequence",
    ),
    Published(
        "nanoGPT",
        "transformer_sizing: forward_total",
        "L*(2*n*3*d**2 + 2*n**2*d + 2*H*n**2*D + 2*n*d**2 + 16*n*d**2) + 2*n*d*V",
        scope="sequence",
    ),
    Published(
        "nanoGPT",
        "transformer_sizing: params, no biases",
        "C*d + V*d + L*(12*d**2 + 2*d) + d",
        of="parameters",
    ),
    Published("nanoGPT", "estimate_mfu: 6N / 3, N without wpe", "2*(P - C*d)"),
    Published("nanoGPT", "estimate_mfu: (6N + 12LHQT) / 3, T = C", "2*(P - C*d) + 4*L*H*D*C"),
    Published("llm.c", "gpt2_estimate_mfu: (6N + 6LCT) / 3", "2*P + 2*L*d*n"),
    Published("Transformer Math", "forward: 2P a token", "2*P"),
    Published("Transformer Math", "model memory: 2 bytes each", "2*P", of="weight bytes"),
    Published("Transformer Math", "inference: 1.2 · model memory", "12/10*2*P", of="memory"),
    Published(
        "cookbook", "calc_transformer_flops: training / 3", "(72*L*d**2 + 12*L*n*d + 6*d*V)/3"
    ),
    Published("cookbook", "calc_transformer_flops --infer", "24*L*d**2 + 4*L*n*d + 6*d*V"),
    Published("scaling book", "ch. 7: 2BSTD in QK, of a head", "2*n*D", part=("qk",), per="L*H"),
    Published("scaling book", "ch. 7: 2BSTD in AV, of a head", "2*n*D", part=("av",), per="L*H"),
    Published("scaling book", "ch. 7: KV cache of a token", "2*2*H*D*L", of="kv bytes"),
    Published("scaling book", "ch. 7: 2 · parameters / FLOP/s", "2*P/A", of="arithmetic seconds"),
    Published(
        "scaling book",
        "ch. 7: minimal step time",
        "(2*2*H*D*L*n + 2*P)/W",
        of="reading seconds",
    ),
)
