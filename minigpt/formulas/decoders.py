"""The witnesses of decoders of any family: those of `verify`, on what is `drawn`.

Where tokens meet experts, data say which, and shapes assume it: there the operations must agree,
not the bytes of the experts' weights.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from counting import scalars
from counting.views import matmul
from minigpt.formulas.closed_forms import Formulas
from minigpt.formulas.components import Roles
from minigpt.formulas.drawn import DecoderCase, with_sizes
from minigpt.formulas.figures import figures, kv_bytes_per_token
from minigpt.formulas.layers import remembered
from minigpt.formulas.other_counters import cache_name, quiet
from minigpt.formulas.symbols import met
from minigpt.models.architectures import FAMILIES
from minigpt.models.decoder_config import DecoderConfig
from minigpt.planning.forward import Make, Pass, forward


def numbers(case: Any) -> Make:
    """A maker of random arrays, the same for the same case."""
    rng, vocabulary = np.random.default_rng(0), case.config.vocab_size

    def make(shape: Any, dtype: Any) -> np.ndarray:
        if dtype is np.int64:
            return rng.integers(vocabulary, size=shape)
        return rng.standard_normal(shape).astype(dtype)

    return make


def oracle(case: DecoderCase) -> dict[str, tuple[Any, Any]]:
    """Operations by kind: of the ledger, and of scalars that were really executed."""
    tally: Counter[str] = Counter()
    random_numbers = numbers(case)

    def make(shape: Any, dtype: Any) -> np.ndarray:
        array = random_numbers(shape, dtype)
        return array if dtype is np.int64 else scalars(array, tally)

    cost = case.run(make).counts.cost.by_kind()
    return {kind: (cost[kind], tally[kind]) for kind in cost}


def shapes(case: DecoderCase) -> dict[str, tuple[Any, Any]]:
    """Of a run on numbers and of one on shapes: operations; and bytes, but for experts met."""
    real, shaped = case.run(numbers(case)), case.run()
    pairs = {k: (real.counts.cost[k], v) for k, v in shaped.counts.cost.items()}
    if not case.config.experts:
        pairs |= {str(k): (real.counts.get(k), row) for k, row in shaped.counts.items()}
        pairs |= {k: (real.peak[k], v) for k, v in shaped.peak.items()}
    return pairs


def closed(case: DecoderCase, form: Formulas) -> dict[str, tuple[Any, Any]]:
    """Every figure of a run on shapes, of 16 bits, and its closed form evaluated."""
    config, at = case.config, replace(case.sizes, dtype="float16")
    told = figures(forward(config, at), at, config.parameters, form.of.roles)
    told |= kv_bytes_per_token(config, at)
    values = case.numbers | met(config, case.B * case.T)
    evaluated = form.at(**values)
    return {key: (told[key], value) for key, value in evaluated.items()}


def torch_flop(case: DecoderCase) -> dict[str, tuple[Any, Any]]:
    """Matmul FLOP, and what FlopCounterMode counts on the model of transformers.

    Of cached latents transformers makes keys and values anew in each pass: so does what it is held
    against, a pass that caches these, and as many again for each that was cached.
    """
    config = _as_transformers_asks(case)
    whole = Pass(case.T, case.N, case.B)  # all logits: theirs has no others
    if not config.latent_cache:
        ours = matmul(forward(config, whole).counts)
    else:
        counts = forward(config, replace(whole, cache="expanded")).counts
        made = matmul(counts.by(Roles.of(config).part_of)["latents"])
        ours = matmul(counts) + made * case.N // case.T
    return {"FLOP": (ours, decoder_torch_flops(config, whole))}


def _as_transformers_asks(case: DecoderCase) -> DecoderConfig:
    """A model that is a multiple of its heads wide, or as wide where no width of theirs is said."""
    known, base = dict(case.values), case.base
    if case.config is base or "d" not in known:
        return case.config
    heads = known["H"] if "H" in known else known["K"] * known["G"]
    said = "head_dim" in base.given or "head_dim" in base.family.defaults
    times = known["D"] if "D" in known and not said else known["d"]
    return with_sizes(base, known | {"d": heads * times})


@quiet()
def decoder_torch_flops(config: DecoderConfig, sizes: Pass) -> int:
    """FlopCounterMode on transformers' model of a decoder's config.json, eager, without data."""
    torch: Any = import_module("torch")
    transformers: Any = import_module("transformers")
    counting: Any = import_module("torch.utils.flop_counter")
    B, T, N = sizes.B, sizes.T, sizes.N
    with torch.device("meta"), torch.no_grad():
        model = _decoder_of_transformers(config)
        past, name = transformers.DynamicCache(config=model.config), cache_name(model)
        if N:
            before = torch.zeros(B, N, dtype=torch.long)
            past = model(before, **{name: past}, use_cache=True, logits_to_keep=1)[name]
        tokens = torch.zeros(B, T, dtype=torch.long)
        with counting.FlopCounterMode(display=False) as counter:
            model(tokens, **{name: past}, use_cache=True)
    return int(counter.get_total_flops())


@remembered(1)
def _decoder_of_transformers(config: DecoderConfig) -> Any:
    """The model, whose experts run as products that FlopCounterMode knows."""
    transformers: Any = import_module("transformers")
    given = {key: value for key, value in config.given.items() if key != "model_type"}
    theirs = transformers.AutoConfig.for_model(_known_there(config), **given)
    return transformers.AutoModelForCausalLM.from_config(
        theirs, attn_implementation="eager", experts_implementation="batched_mm"
    )


def _known_there(config: DecoderConfig) -> str:
    """The model type under which transformers knows a family: its own, or that of an equal one."""
    transformers: Any = import_module("transformers")
    alike = [family for family in FAMILIES if family.reader is config.family.reader]
    types = (config.family.model_type, *(family.model_type for family in alike))
    return next(kind for kind in types if kind in transformers.CONFIG_MAPPING)


Compare = Callable[[DecoderCase], Mapping[str, tuple[Any, Any]]]
