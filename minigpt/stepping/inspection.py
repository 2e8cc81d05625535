"""What can be read where a model has stopped: its cache, its attention, what it would say now.

It is found in the variables of the functions that run, from the inside out, so it is there in any
debugger. Nothing here is for a screen.
"""

from functools import lru_cache
from types import FrameType
from typing import NamedTuple

import numpy as np

from counting.array import Counted
from counting.counts import Counts
from counting.stepping.commands import below
from counting.stepping.frames import callers
from counting.views import flops
from minigpt.errors import InputError
from minigpt.formulas.figures import sizes
from minigpt.inference.device import to_host
from minigpt.models.cache import KVCache, LayerCache
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.latent import LatentAttention
from minigpt.models.model import Model
from minigpt.models.module import Module
from minigpt.models.paths import layer_of
from minigpt.models.routing import bound
from minigpt.planning.forward import Pass, on_shapes


def model_of(frame: FrameType) -> Model | None:
    """The model that runs."""
    parts = (above.f_locals.get("self") for above in callers(frame))
    return next((part for part in parts if isinstance(part, Model)), None)


class CacheUse(NamedTuple):
    """How full a layer's cache is: positions filled and reserved, and the bytes of both.

    A state takes as many bytes whatever the tokens that went into it: None are reserved.
    """

    layer: int
    filled: int
    reserved: int | None
    filled_bytes: int
    reserved_bytes: int


def kv_cache(frame: FrameType) -> list[CacheUse]:
    """The KV cache of the pass that runs, layer by layer; empty if no pass does."""
    caches = (above.f_locals.get("cache") for above in callers(frame))
    cache = next((found for found in caches if isinstance(found, KVCache)), None)
    if cache is None:
        return []
    return [
        CacheUse(i, layer.length, cache.capacity, layer.filled_bytes, layer.nbytes)
        if isinstance(layer, LayerCache)
        else CacheUse(i, layer.length, None, layer.nbytes, layer.nbytes)
        for i, layer in enumerate(cache.layers)
    ]


class Lens(NamedTuple):
    """What a model would say if it ended here (nostalgebraist, "the logit lens", 2020).

    Attributes:
        path: whose residual stream was read; "" for what goes in or comes out of all layers.
        tokens: the most likely, and their probabilities.
    """

    path: str
    tokens: list[tuple[int, float]]


def logit_lens(frame: FrameType, top: int = 5) -> Lens | None:
    """The residual stream of the last position through the final norm and the head.

    It computes with counted arrays: see `uncounted`. None where there is no stream yet.
    """
    model = model_of(frame)
    if model is None:
        return None
    for above in callers(frame):
        part, x = above.f_locals.get("self"), above.f_locals.get("x")
        if isinstance(part, Module) and type(x) is Counted:
            whole = part is model
            if (whole or layer_of(part.path) == part.path) and x.shape[-1] == model.config.width:
                break
    else:
        return None
    logits = to_host(model.unembed(x[:, -1:]).data)[0, -1].astype(np.float64)
    weights = np.exp(logits - logits.max())
    order = np.argsort(-weights, kind="stable")[:top]
    share = weights / weights.sum()
    return Lens("" if whole else part.path, [(int(i), float(share[i])) for i in order])


def attention_pattern(frame: FrameType) -> np.ndarray | None:
    """How much each query of the layer looks at each key: (H, T, S), of the first sequence.

    None where it is not computed yet, or let go of already.
    """
    for above in callers(frame):
        pattern = above.f_locals.get("pattern")
        if hasattr(pattern, "shape"):
            data = to_host(pattern.data if type(pattern) is Counted else pattern)[0]
            return data.reshape(-1, *data.shape[-2:]).astype(np.float64)
        part = above.f_locals.get("self")
        if isinstance(part, Module) and layer_of(part.path) == part.path:
            return None  # the whole layer: what is further out is another's
    return None


class Expected(NamedTuple):
    """What a pass costs at a path and below.

    Attributes:
        flops: a multiply-add as two.
        formula: the closed form, or "" where there is none: then it is a run on shapes.
    """

    flops: int
    formula: str


def running(frame: FrameType) -> Pass | None:
    """The sizes of the pass that runs; None if none does."""
    for above in callers(frame):
        found = above.f_locals
        if isinstance(model := found.get("self"), Model) and "N" in found:
            (B, T), N, logits = found["tokens"].shape, found["N"], found["logits"]
            capacity = found["cache"].capacity
            return Pass(T, N, B, logits, cache=_cache_of(model), capacity=capacity)
    return None


def expected(frame: FrameType, path: str) -> Expected | None:
    """What the pass that runs should cost at a path and below, found without running it.

    For GPT-2 it is its closed form (see `formulas`) at the sizes of this pass, for others a run on
    shapes. None if no pass runs.
    """
    model, of = model_of(frame), running(frame)
    if model is None or of is None:
        return None
    if not isinstance(model.config, GPT2Config):
        try:
            run = on_shapes(model.config, of).counts
        except InputError:  # further than its context, in a cache of one's own making
            return None
        return Expected(flops(below(run, path) if path else run), "")
    import sympy

    from minigpt.formulas.closed_forms import LETTERS

    counts = _closed_forms(model.config, of.logits)
    layer = layer_of(path)
    if layer:
        path = path.replace(layer, "h.0", 1)
    closed = flops(below(counts, path) if path else counts)
    if layer:  # h.0 stands for all L
        closed = closed / LETTERS["L"]
    closed = sympy.factor_terms(sympy.expand(closed))
    values = {"B": of.B, "T": of.T, "N": of.N, **sizes(model.config)}
    at = {letter: values[name] for name, letter in LETTERS.items()}
    return Expected(int(closed.subs(at)), str(closed))


@lru_cache(maxsize=4)
def _closed_forms(config: GPT2Config, logits: str) -> Counts:
    from minigpt.formulas.closed_forms import formulas

    return formulas(config, logits=logits).counts


def every_path(model: Model) -> list[str]:
    """The paths of all operations that a pass can be recorded at, in the order that they run in.

    Experts are met by as few tokens as can meet all of them.
    """
    experts, tokens = model.config.experts, 1
    if experts:
        tokens = -(-experts.n_routed_experts // experts.num_experts_per_tok)
    sizes = Pass(min(tokens, model.config.n_positions), assume=bound, cache=_cache_of(model))
    return list(dict.fromkeys(path for path, _ in on_shapes(model.config, sizes).counts))


def _cache_of(model: Model) -> str | None:
    latent = (part for part in model.modules() if isinstance(part, LatentAttention))
    return None if all(part.compressed for part in latent) else "expanded"
