"""What is told of a forward pass, in numbers or in expressions alike."""

from collections.abc import Mapping
from typing import Any

from counting import Counts, ShapeArray
from counting.views import VIEWS
from minigpt.checkpoint.resolve import resolve
from minigpt.formulas.components import COMPONENTS, Roles, part_of
from minigpt.formulas.symbols import sizes
from minigpt.models.architectures import build
from minigpt.models.cache import LayerCache
from minigpt.models.config import Config
from minigpt.planning.forward import DTYPES, Forward, Pass

__all__ = ["COMPONENTS", "figures", "named", "part_of", "sizes"]

GPT2_ROLES = Roles.gpt2()


def figures(run: Forward, of: Pass, parameters: Any, roles: Roles = GPT2_ROLES) -> dict[str, Any]:
    """What is told of a forward pass, in numbers or in expressions: FLOP, bytes, memory.

    Args:
        of: the sizes that it was run at.
        parameters: of the model.
        roles: of its components.
    """
    counts, tokens, itemsize = run.counts, of.B * of.T, of.itemsize
    grouped = counts.by(roles.part_of)
    by_component = {n: grouped.get(n, Counts(counts.columns, {})) for n in roles.names}
    priced = [name for name in roles.names if name not in ("mask", "cache")]  # these only move
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
                name: sum(getattr(by_component[name], way).values()) for name in roles.names
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


def kv_bytes_per_token(
    config: Config, of: Pass, times: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Bytes and elements of cache that one more token of a sequence takes, while a window is open.

    Args:
        times: how many layers each stands for, by path; one if not given.
    """
    few, kinds = (config, range(0)) if times else config.short()
    alike = [*times.values()] if times else [kinds.count(i) for i in range(few.layers)]
    weights = {key: ShapeArray(shape, DTYPES[of.dtype]) for key, shape in few.shapes().items()}
    cache = build(few, weights, cache=of.cache or "compressed")
    layers = cache.new_cache(1, 1).layers
    kept = [(n, x) for n, x in zip(alike, layers, strict=True) if isinstance(x, LayerCache)]
    held = sum(n * layer.bytes_of(1) for n, layer in kept)
    elements = held // of.itemsize if isinstance(held, int) else held / of.itemsize
    return {"kv_bytes_per_token": held, "kv_elements_per_token": elements}


def named(model: str) -> Config:
    """The configuration of a model by any name that `resolve` takes.

    Raises:
        InputError: there is none.
    """
    return resolve(model)
