"""What is told of a forward pass of GPT-2, in numbers or in expressions alike."""

from typing import Any

from counting.views import VIEWS
from minigpt.checkpoint.resolve import resolve
from minigpt.errors import InputError
from minigpt.models.gpt2_config import GPT2Config
from minigpt.models.paths import component
from minigpt.planning.forward import Forward, Pass

# What formulas call a component -> what `paths.component` calls its modules.
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
    "residual": ("residual",),
    "head": ("lm_head",),
}
_PART_OF = {module: name for name, modules in COMPONENTS.items() for module in modules}


def part_of(path: str) -> str:
    """What formulas call the component that a path belongs to: "qkv" for `h.3.attn.c_attn`."""
    return _PART_OF[component(path)]


def figures(run: Forward, of: Pass, parameters: Any) -> dict[str, Any]:
    """What is told of a forward pass, in numbers or in expressions: FLOP, bytes, memory.

    Args:
        of: the sizes that it was run at.
        parameters: of the model.
    """
    counts, tokens, itemsize = run.counts, of.B * of.T, of.itemsize
    by_component = counts.by(part_of)
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
