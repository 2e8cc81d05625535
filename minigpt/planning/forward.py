"""One forward pass of a model, executed to be counted: on shapes, on numbers, on symbols."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from counting import Counted, Counts, Ledger, ShapeArray, category
from counting.views import VIEWS
from minigpt.checkpoint.resolve import resolve
from minigpt.errors import InputError
from minigpt.models.gpt2 import GPT2
from minigpt.models.gpt2_config import GPT2Config

# Component -> what the paths of its operations end in, within a block or outside of any.
COMPONENTS = {
    "embed": ("wte", "wpe"),
    "mask": ("mask",),
    "norms": ("ln_1", "ln_2", "ln_f"),
    "qkv": ("attn.c_attn",),
    "cache": ("attn.cache",),
    "qk": ("attn.qk",),
    "softmax": ("attn.softmax",),
    "av": ("attn.av",),
    "out": ("attn.c_proj",),
    "mlp": ("mlp.c_fc", "mlp.gelu", "mlp.c_proj"),
    "residual": ("",),
    "head": ("lm_head",),
}
_COMPONENT_OF = {end: name for name, ends in COMPONENTS.items() for end in ends}


def component(path: str) -> str:
    """The component that a path belongs to: `h.3.attn.c_attn` to "qkv"."""
    return _COMPONENT_OF[re.sub(r"^h\.\d+\.?", "", path)]


class Forward(NamedTuple):
    """What one forward pass costs, and the most bytes alive at once, by category."""

    counts: Counts
    peak: dict[str, Any]


def forward(
    config: Any,
    B: Any = 1,
    T: Any = 1,
    N: Any = 0,
    *,
    logits: str = "all",
    dtype: Any = np.float32,
    make: Callable[[tuple[Any, ...], Any], Any] = ShapeArray,
    architecture: Callable[..., Any] = GPT2,
) -> Forward:
    """One forward pass of T new tokens of each of B sequences after N cached, executed.

    Args:
        logits: "all" of the T positions, or those of the "last".
        make: (shape, dtype) -> array: what it runs on, shapes alone unless said otherwise.
        architecture: the class of the model, of which `config` is a configuration.
    """
    ledger = Ledger()
    with category("weights"):
        weights = {key: Counted(make(s, dtype), ledger) for key, s in config.shapes().items()}
    model = architecture(config, weights)
    cache = model.new_cache(B, config.n_positions)
    for layer in cache.layers:
        for held in (layer.k, layer.v):
            held.data[:] = make(held.shape, dtype)  # past the ledger: it was cached before
        layer.length = N
    before = ledger.snapshot()
    model(make((B, T), np.int64), cache, logits)
    return Forward(ledger.snapshot() - before, ledger.peak_bytes)


def figures(run: Forward, parameters: Any, tokens: Any, itemsize: int) -> dict[str, Any]:
    """What is told of a forward pass, in numbers or in expressions: FLOP, bytes, memory.

    Args:
        parameters: of the model.
        tokens: B T of the pass.
        itemsize: bytes of an element.
    """
    counts = run.counts
    by_component = counts.by(component)
    priced = [name for name in COMPONENTS if name not in ("mask", "cache")]  # these only move
    found: dict[str, Any] = {
        "views": {
            view: {
                "total": price(counts),
                "by_component": {name: price(by_component[name]) for name in priced},
            }
            for view, price in VIEWS.items()
        },
        "kinds": counts.cost.by_kind(),
    }
    for way in ("bytes_read", "bytes_written"):
        by_category = getattr(counts, way)
        found[way] = {
            "total": sum(by_category.values()),
            "by_category": by_category,
            "by_component": {
                name: sum(getattr(by_component[name], way).values()) for name in COMPONENTS
            },
        }
    kv = counts.bytes_written["kv_cache"]
    whole = isinstance(kv, int)
    return found | {
        "kv_bytes_per_token": kv // tokens if whole else kv / tokens,
        "kv_elements_per_token": kv // (tokens * itemsize) if whole else kv / (tokens * itemsize),
        "parameters": parameters,
        "weight_bytes": itemsize * parameters,
        "peak_activation_bytes": run.peak["activations"],
    }


def sizes(config: GPT2Config) -> dict[str, Any]:
    """The value of each symbol of a configuration."""
    return {
        "L": config.n_layer,
        "H": config.n_head,
        "D": config.head_dim,
        "F": config.ffn_dim,
        "V": config.vocab_size,
        "C": config.n_positions,
    }


def named(model: str) -> GPT2Config:
    """The configuration of a GPT-2 by any name that `resolve` takes.

    Raises:
        InputError: there is none, or it is not a GPT-2's.
    """
    config = resolve(model)
    if not isinstance(config, GPT2Config):
        raise InputError(f"{model} is no GPT-2: minigpt count says what it costs, in numbers")
    return config
