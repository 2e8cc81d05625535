"""Names for people: of what a pass does, and of the tensors that it does it with."""

from typing import Any

import sympy

from minigpt.formulas.closed_forms import Formulas
from minigpt.formulas.layers import setting
from minigpt.models.decoder_config import DecoderConfig

NAMES = {
    "embed": "adding embedding rows",
    "rope": "rotary positions",
    "norms": "layer norms",
    "qkv": "queries, keys and values",
    "latents": "keys and values of latents",
    "qk": "scores",
    "softmax": "softmax",
    "av": "values",
    "out": "attention's output layer",
    "router": "routing",
    "experts": "experts",
    "shared": "shared experts",
    "mlp": "feed-forward layer",
    "residual": "residual additions",
    "head": "logits",
}
TENSORS = {  # what a checkpoint's keys of GPT-2 end in -> what the tensor is
    "wte.weight": "token table",
    "wpe.weight": "position table",
    "lm_head.weight": "head",
    **dict.fromkeys(("ln_1.weight", "ln_2.weight", "ln_f.weight"), "norms and biases"),
    ".bias": "norms and biases",
    ".weight": "matrices",
}
IDLE = {  # parameters that a formula in P prices though no product uses them
    "position table": "the position table, which is looked up",
    "norms and biases": "norms and biases, which multiply no matrix",
}


def parameters(forms: Formulas) -> dict[str, Any]:
    """The parameters of a model by what their tensors are."""
    kinds = [*TENSORS.values(), "experts"]
    parts = dict.fromkeys(kinds if forms.of.of.experts else kinds[:-1], sympy.Integer(0))
    for key, number in forms.tensors.items():
        parts[_kind(key, forms)] += number
    return parts


def _kind(key: str, forms: Formulas) -> str:
    config = forms.of.config
    if not isinstance(config, DecoderConfig):
        return next(what for end, what in TENSORS.items() if key.endswith(end))
    if ".experts." in key:
        return "experts"
    if len(config.shapes()[key]) == 1:
        return "norms and biases"
    positions = setting(config.decoder, "positions")
    tables = {
        config.decoder["embedding"].name: "token table",
        positions.name if positions else None: "position table",
        config.decoder["head"]: "head",
    }
    return tables.get(key.rpartition(".")[0], "matrices")


def idle(forms: Formulas) -> dict[str, Any]:
    """Parameters that no product uses, by why."""
    groups = parameters(forms)
    return {why: groups[name] for name, why in IDLE.items()}
