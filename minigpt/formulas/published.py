"""Formulas that papers, posts and programs publish for a transformer's cost, kept as data.

`minigpt verify` holds each against execution, in the terms that its source speaks in. To add one,
add a row to `PUBLISHED`; its formula is arithmetic in these letters, everything else has a default:

    L  layers                 n  keys that a token looks at, or the tokens of a sequence
    d  width of the model     V  tokens in the vocabulary
    H  heads                  C  positions of the context
    D  width of a head        P  parameters
    A  FLOP a second          W  bytes a second         M  bytes of memory     of the hardware

Elements are of 2 bytes wherever bytes are meant.
"""

from collections.abc import Iterator
from functools import partial
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
        formula: in the letters above, of as much as `mode` says.
        of: what it prices, see `claims.MEASURES`; the attributes from `view` on are of "flop".
        part: components of the model, see `figures.COMPONENTS`; all of them if empty.
        per: what the execution is divided by to be comparable: "L" for one layer.
        view: the convention that it claims to be in, see `counting.views`.
        scope: of one "token" decoded at n keys, of a token of a sequence of n on average ("mean"),
            or of a whole "sequence" of n.
        scores: "full", every query against all keys as the model executes it, also where a
            formula has no term for scores; or "causal", each against those it may see alone.
        mode: "forward"; "training", with a backward pass that counts twice; or "recomputed",
            training that runs the blocks forward once more. See `claims.PASSES`.
        model: the only model that it is about.
    """

    source: str
    where: str
    formula: str
    of: str = "flop"
    part: tuple[str, ...] = ()
    per: str = "1"
    view: str = "matmul"
    scope: Literal["token", "mean", "sequence"] = "token"
    scores: Literal["full", "causal"] = "full"
    mode: Literal["forward", "training", "recomputed"] = "forward"
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
    "Megatron 2022": Source(
        "Reducing Activation Recomputation in Large Transformer Models",
        "Korthikanti et al.",
        2022,
        "https://arxiv.org/abs/2205.05198",
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

ARTICLE = {
    "GPT-2 XL": ("gpt2-xl", "0.260T", "0.307GB"),
    "Llama 3.1 8B": ("llama-3.1-8b", "4.307T", "0.524GB"),
    "Llama 3.1 405B": ("llama-3.1-405b", "69.53T", "8.25GB"),
}
"""What the article's tables say: a model, its FLOP a token, its bytes of cache for 1000 tokens."""


def _of_the_articles_table() -> Iterator[Published]:
    for title, (model, flop, kv) in ARTICLE.items():
        giga = f"{1000 * float(flop[:-1]):.0f}*10**9"
        yield Published("article", f"table: FLOP of {title}, {flop}", giga, model=model)
        where = f"table: KV bytes of {title}, {kv} for 1000"
        mega = f"{1000 * float(kv[:-2]):.0f}*10**6/1000"
        yield Published("article", where, mega, of="kv bytes", model=model)


# A source's rows, in the terms that all of them share.
_article = partial(Published, "article")
_kipply = partial(Published, "kipply")
_kaplan = partial(Published, "Kaplan", scope="mean")
_chinchilla = partial(Published, "Chinchilla", scope="sequence")
_megatron = partial(Published, "Megatron", scope="sequence")
_nanogpt = partial(Published, "nanoGPT")
_math = partial(Published, "Transformer Math")
_cookbook = partial(Published, "cookbook", scope="mean")
_scaling = partial(Published, "scaling book")

PUBLISHED = (
    _article("headline and eq. 9", "24*L*d**2 + 2*V*d**2"),
    _article("eq. 1: 2mnp, for q, k and v", "2*1*d*3*d", part=("qkv",), per="L"),
    _article("eq. 2: q of a head", "2*d*D", part=("qkv",), per="3*L*H"),
    _article("eq. 3: q, k and v", "6*d**2", part=("qkv",), per="L"),
    _article("eq. 4: q kᵀ of a head", "2*D", part=("qk",), per="L*H"),
    _article("eq. 4: softmax of a head", "2*D", part=("softmax",), per="L*H", view="all"),
    _article("eq. 4: softmax(…) v of a head", "2*d", part=("av",), per="L*H"),
    _article("eq. 4: a head", "4*D + 2*d", part=ATTENTION, per="L*H", view="all"),
    _article("eq. 4: all heads", "4*d + 2*d*H", part=ATTENTION, per="L", view="all"),
    _article("eq. 5: linear layer", "2*d**2", part=("out",), per="L"),
    _article("eq. 6: feed-forward", "16*d**2", part=("mlp",), per="L"),
    _article(
        "eq. 7: block, in full", "6*d**2 + 4*d + 2*d*H + 2*d**2 + 16*d**2", part=BLOCK, per="L"
    ),
    _article("eq. 7: block, rounded", "24*d**2", part=BLOCK, per="L"),
    _article("token and position embeddings: lookups", "0", part=("embed",)),
    _article("eq. 8: final layer", "2*d**2*V", part=("head",)),
    _article("eq. 10: KV bytes a token", "4*L*d", of="kv bytes"),
    _article("model parameters: 2n bytes", "2*P", of="weight bytes"),
    *_of_the_articles_table(),
    _article("table: 1.55B parameters of GPT-2 XL", "1550*10**6", of="parameters", model="gpt2-xl"),
    _kipply("kv cache: 2 · 2 · L · H · D bytes", "2*2*L*d", of="kv bytes"),
    _kipply("kv cache: 2 · 2 · L · d² for k and v", "2*2*L*d**2", part=("qkv",), per="3/2"),
    _kipply("flops counting: 2 · 12 · L · d²", "24*L*d**2"),
    _kipply("latency calculations: 2P FLOP", "2*P"),
    _kipply(
        "latency calculations: large batch, 2P / FLOP a second", "2*P/A", of="arithmetic seconds"
    ),
    _kipply(
        "latency calculations: small batch, 2P / bytes a second", "2*P/W", of="reading seconds"
    ),
    _kipply("capacity: tokens that fit beside 2P bytes", "(M - 2*P)/(4*L*d)", of="tokens that fit"),
    _kaplan("section 2.1: 2N, N = 12 L d² (non-embedding)", "2*12*L*d**2"),
    _kaplan(
        "eq. 2.2: 2N + 2 L n d, held against the whole model",
        "2*12*L*d**2 + 2*L*n*d",
        scores="causal",
    ),
    _kaplan(
        "table 1: total (non-embedding), blocks alone",
        "2*12*L*d**2 + 2*L*n*d",
        part=BLOCK,
        scores="causal",
    ),
    _kaplan("table 1: attention: mask", "2*L*n*d", part=("qk", "av"), scores="causal"),
    _kaplan("table 1: embed", "4*d", part=("embed",), view="all"),
    _kaplan("table 1: de-embed", "2*d*V", part=("head",)),
    Published(
        "PaLM",
        "appendix B: 6N + 12LHQT; N without wpe, which PaLM has not",
        "6*(P - C*d) + 12*L*H*D*n",
        scope="mean",
        mode="training",
    ),
    _chinchilla(
        "appendix F: forward pass",
        "2*n*V*d + L*(6*n*d*H*D + 2*n**2*H*D + 3*H*n**2 + 2*n**2*H*D + 2*n*H*D*d + 16*n*d**2)"
        " + 2*n*d*V",
    ),
    _chinchilla("appendix F: embeddings", "2*n*V*d", part=("embed",)),
    _chinchilla("appendix F: softmax", "3*H*n**2", part=("softmax",), per="L", view="all"),
    _megatron(
        "appendix: forward pass, 24 B s h² + 4 B s² h a layer, 2 B s h V",
        "L*(24*n*d**2 + 4*n**2*d) + 2*n*d*V",
    ),
    _megatron(
        "eq. 3: 96 B s l h² (1 + s/6h + V/16lh)",
        "96*n*L*d**2*(1 + n/(6*d) + V/(16*L*d))",
        mode="recomputed",
    ),
    Published(
        "Megatron 2022",
        "model FLOPs: 72 B s l h² (1 + s/6h + V/12lh)",
        "72*n*L*d**2*(1 + n/(6*d) + V/(12*L*d))",
        scope="sequence",
        mode="training",
    ),
    _nanogpt(
        "transformer_sizing: forward_total",
        "L*(2*n*3*d**2 + 2*n**2*d + 2*H*n**2*D + 2*n*d**2 + 16*n*d**2) + 2*n*d*V",
        scope="sequence",
    ),
    _nanogpt(
        "transformer_sizing: params, no biases",
        "C*d + V*d + L*(12*d**2 + 2*d) + d",
        of="parameters",
    ),
    _nanogpt("estimate_mfu: 6N alone, N without wpe", "6*(P - C*d)", scope="mean", mode="training"),
    _nanogpt(
        "estimate_mfu: 6N + 12LHQT, N without wpe, T = C",
        "6*(P - C*d) + 12*L*H*D*C",
        scope="mean",
        mode="training",
    ),
    Published(
        "llm.c",
        "gpt2_estimate_mfu: 6N + 6LCT",
        "6*P + 6*L*d*n",
        scope="mean",
        scores="causal",
        mode="training",
    ),
    _math("compute: forward, 2P a token", "2*P", scope="mean"),
    _math("compute: 6P a token", "6*P", scope="mean", mode="training"),
    _math("model weights: 2 bytes each in fp16", "2*P", of="weight bytes"),
    _math("total inference: 1.2 · model memory", "12/10*2*P", of="memory"),
    _cookbook(
        "calc_transformer_flops, as called without options",
        "96*L*d**2 + 16*L*n*d + 6*d*V",
        mode="recomputed",
    ),
    _cookbook(
        "calc_transformer_flops --no-checkpoint-activations",
        "72*L*d**2 + 12*L*n*d + 6*d*V",
        mode="training",
    ),
    _cookbook("calc_transformer_flops --infer", "24*L*d**2 + 4*L*n*d + 6*d*V"),
    _scaling("ch. 7: 2BSTD in QK, of a head", "2*n*D", part=("qk",), per="L*H"),
    _scaling("ch. 7: 2BSTD in AV, of a head", "2*n*D", part=("av",), per="L*H"),
    _scaling("ch. 7: KV cache of a token", "2*2*H*D*L", of="kv bytes"),
    _scaling("ch. 7: 2 · parameters / FLOP/s", "2*P/A", of="arithmetic seconds"),
    _scaling("ch. 7: theoretical min step time", "(2*2*H*D*L*n + 2*P)/W", of="reading seconds"),
)
