"""The article on hardware, memory and the KV cache, answered by execution and data sheets."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sympy

from minigpt.formulas.article.answer import (
    CONTEXT,
    LLAMAS,
    XL,
    Answer,
    claim,
    condition,
    forms,
    planned,
    right,
    token,
    wrong,
)
from minigpt.formulas.claims import GPU, n
from minigpt.formulas.closed_forms import B, L, N, T
from minigpt.formulas.notation import plain, si
from minigpt.formulas.published import ARTICLE
from minigpt.models.architectures import PRESETS
from minigpt.planning.forward import Pass, on_shapes

SPARSITY = 2  # what 2:4 sparse weights multiply a dense rate by


def state_of_the_art() -> Answer:
    r1 = PRESETS["deepseek-r1"].parameters
    return right(
        f"{r1:,} parameters; Llama 3.1 405B has {LLAMAS['405B'].parameters:,}",
        "counted from the shapes of their checkpoints",
        "the state-of-the-art models have hundreds of billions of parameters",
        "DeepSeek R1 has about 671 billion parameters",
    )


def rates() -> Iterator[Answer]:
    """Whether a rate of operations says how long a pass takes."""
    yield condition(
        f"an {GPU.name} has several, in TFLOP/s: "
        + ", ".join(f"{rate / 1e12:g} in {kind}" for kind, rate in GPU.flops.items()),
        "one for each type and for what it is accumulated in; and data sheets may print them with "
        "sparsity, twice the dense rate",
        "Every GPU has a maximum number of floating point operations it can perform in a second "
        "(FLOPS) and is specified in the GPU specs.",
        "A GPU datasheet specifies the theoretical maximum number of floating point operations "
        "it can perform in a second.",
    )
    made = planned("gpt2-xl")
    about = made.first.estimate
    yield condition(
        f"GPT-2 XL on an {GPU.name}: a prompt of {made.prompt} tokens waits for "
        f"{made.prefill.binds}; a single token for {made.first.binds}, "
        f"{1e3 * about.memory_s:.2f} ms beside {1e3 * about.arithmetic_s:.2f} ms of "
        "arithmetic",
        "true where arithmetic is what takes longest: many tokens at once. The formula gives "
        "operations, not time",
        "If we can calculate the number of floating point operations that our model needs to "
        "perform for a single token, we can calculate the time taken for the forward pass.",
        "can we approximately calculate the inference time without running any code? "
        "We can calculate it using this simple formula",
    )


def hardware() -> Iterator[Answer]:
    dense, wide, plainly = (
        GPU.flops[kind] / 1e12 for kind in ("float16/float16", "float16/float32", "float32/float32")
    )
    yield condition(
        f"{dense:g} dense with fp16 accumulation, {SPARSITY * dense:g} if 2:4 sparse; {wide:g} "
        f"dense with fp32 accumulation, {plainly:g} without tensor cores",
        "its source prints the sparse rate; a model's weights are dense, and sums of thousands of "
        f"products want fp32 ({GPU.source})",
        "My Nvidia 3060 GPU can theoretically do 101T",
        "FLOPS using FP16 (half precision)",
    )
    made = planned("llama-3.1-8b")
    rate, about = 1 / made.first.seconds, made.first.estimate
    said = float(ARTICLE["Llama 3.1 8B"][1][:-1]) * 1e12
    yield wrong(
        f"{rate:.0f} tokens a second at most, if its weights fitted: "
        f"{1e3 * about.memory_s:.1f} ms to read {si(about.weight_bytes)}B at "
        f"{GPU.bandwidth / 1e9:g} GB/s. Arithmetic alone, {si(about.flops)}FLOP at {wide:g} "
        f"TFLOP/s, would allow {1 / about.arithmetic_s:,.0f}",
        f"its 23 is close, for another reason: a count {said / about.flops:.0f} times too "
        "large hides that decoding waits for memory. It sets memory aside in this footnote, and "
        "says below that the model does not fit",
        r"I can process about $\frac{101}{4.307} \approx 23$ tokens per second.",
        "[^ Note that I have not considered memory to store these parameters]",
    )


def parameters() -> Iterator[Answer]:
    made, llama = planned("gpt2-xl"), planned("llama-3.1-8b")
    whole = on_shapes(XL, Pass(CONTEXT, logits="last")).peak
    large = on_shapes(LLAMAS["8B"], Pass(llama.context, logits="last")).peak
    yield condition(
        f"GPT-2 XL: weights {si(whole['weights'])}B, cache of {CONTEXT} tokens "
        f"{si(whole['kv_cache'])}B, activations of such a prompt {si(whole['activations'])}B; "
        f"Llama 3.1 8B at {llama.context}: {si(large['weights'])}B, {si(large['kv_cache'])}B, "
        f"{si(large['activations'])}B",
        "true while tokens are decoded; a long prompt's scores, written out as in the formula, are "
        "larger than either. Kernels that fuse attention do not write them out",
        "In a transformer model, two major components that take up the GPU memory are the model "
        "parameters and KV cache.",
    )
    weights = made.memory.weights
    yield right(
        f"{weights / XL.parameters:g} bytes a parameter; {si(weights)}B for GPT-2 XL",
        "what the run holds as weights, nothing beside",
        "Typically we store all the parameters in half precision(FP16), "
        "each parameter requires 2 bytes.",
        "If a model has $n$ parameters, the memory required to store them is simply $ 2.n $ bytes",
    )
    yield condition(
        f"{GPU.memory / 2**30:.4g} GiB, {si(GPU.memory)}B, and what the runtime takes of it is no "
        f"program's ({made.overhead / 1e9:g} GB, an assumption)",
        "GB on the box are GiB",
        "My Nvidia 3060 GPU has 12GB memory.",
    )
    yield right(
        f"{si(llama.memory.weights)}B: {'it fits' if llama.fits else 'it does not fit'}",
        f"the weights alone are {si(llama.memory.weights - GPU.memory)}B more than the memory",
        "I cannot fit a Llama 3.1 8B model because storing the parameters alone "
        "would require 16GB of memory.",
    )
    yield right(
        f"{XL.parameters:,} parameters, {si(made.memory.weights)}B: "
        f"{'it fits' if made.fits else 'it does not fit'}",
        f"with a cache of {made.context} tokens, activations of fused attention and "
        f"{made.memory.overhead / 1e9:g} GB for the runtime it needs {si(made.memory.needed)}B",
        "I can fit a smaller model like GPT2 XL with ~1.5B parameters "
        "which would take about 3GB of memory.",
    )


def kv_cache() -> Iterator[Answer]:
    priced = forms().closed_forms["views"]["matmul"]["by_component"]
    prefill = {B: 1, T: n, N: 0}
    step = {B: 1, T: 1, N: n - 1}
    scores, qkv = ((priced[name] / L).expand() for name in ("qk", "qkv"))
    once = plain((qkv * 2 / 3).subs(step).expand())
    again = plain((qkv * 2 / 3).subs(prefill).expand())
    yield right(
        f"`{plain(scores.subs(prefill).expand())}` a layer for n tokens at once",
        "of matrices with a row for each token, not of the shapes it gives",
        "Notice that the $QK^T$ computation increases quadratically "
        "with the length of the sequence.",
    )
    yield right(
        f"keys and values of all n tokens again: `{again}` a layer, instead of `{once}`",
        "without a cache each new token is a prefill of all before it",
        "The key and value calculations are repeated for all the previous tokens "
        "which is wasteful.",
    )
    of_one = scores.subs(step).expand()
    i = sympy.Symbol("i", integer=True, positive=True)
    of_all = sympy.summation(of_one.subs(n, i), (i, 1, n)).expand()
    yield condition(
        f"`{plain(of_one)}` a layer for one token; `{plain(of_all)}` for n of them, one after "
        "another",
        "true of a token; the whole sequence stays quadratic, at half the square",
        "Caching keys and values will make the $QK^T$ computation linear "
        "with the length of the sequence $n_s$.",
    )
    kv = claim("eq. 10")
    yield right(
        f"`{kv.executed_form}` bytes a token",
        "every head of GPT-2 has keys and values of its own, of 2 bytes a number",
        r"\text{To store keys for a single attention head} & 2.d_k \\",
        r"\text{Storing keys and values} &  4.d_k \\",
        r"\text{For all heads} & 4.d_k.n_{heads} = 4.d_{model} \\",
        r"\text{For all layers in the transformer} & 4.n_{layers}.d_{model} \tag{10}",
    )
    yield right(
        f"{1000 * kv.executed / 1e9:.4f} GB for 1000 tokens of GPT-2 XL",
        "(10) evaluated",
        f"GPT2 XL (1.55B) & 48 & 1600 &  {ARTICLE['GPT-2 XL'][2]}",
    )
    rows = ("Llama 3.1(8B) & 32 & 4096  & ", "Llama 3.1(405B) & 126 & 16384 & ")
    for (name, config), row in zip(LLAMAS.items(), rows, strict=True):
        yield wrong(
            f"{1000 * _kv(config) / 1e9:.3f} GB for 1000 tokens of Llama 3.1 {name}",
            f"(10) gives {4 * config.layers * config.width / 1e6:.4g}; but "
            f"{config.num_attention_heads} heads share {config.num_key_value_heads} keys and "
            "values",
            row + ARTICLE[f"Llama 3.1 {name}"][2],
        )
    yield from _growth()


def _growth() -> Iterator[Answer]:
    made = planned("gpt2-xl")
    yield condition(
        f"{made.tokens_cached:,} tokens beside weights, activations and the runtime: "
        f"{made.largest_batch} sequences of {made.context}",
        f"of many sequences: GPT-2's context ends at {XL.n_positions}. Its 9 GB are what the "
        "weights leave, with nothing for activations and the runtime",
        r"using GPT2, I can cache about $\frac{9GB}{0.307GB} \approx 30k$ tokens.",
    )
    twice = _kv(replace(XL, n_layer=2 * XL.n_layer)) / _kv(XL)
    yield right(
        f"{twice:g} times the bytes with twice the layers",
        "each layer has a cache of its own",
        "The memory used for kv cache increases linearly with both $n_{layers}$",
    )
    wider = _kv(replace(XL, n_embd=2 * XL.n_embd, n_head=2 * XL.n_head)) / _kv(XL)
    small, large = LLAMAS.values()
    yield condition(
        f"{wider:g} times with twice the d in GPT-2; from Llama 3.1 8B to 405B d grows "
        f"{large.width / small.width:g}-fold, layers {large.layers / small.layers:.2f}-fold "
        f"and the cache of a token {_kv(large) / _kv(small):.2f}-fold: with the layers alone",
        "true where each head has keys and values; the heads of both Llamas share "
        f"{small.num_key_value_heads} of them, equally wide",
        "increases linearly with both $n_{layers}$ and embedding size.",
    )


def _kv(config: Any) -> int:
    """Bytes that a token adds to the cache."""
    return token(config).bytes_written["kv_cache"]
