"""What another model, context, batch, type or GPU would take: sliders beside exact numbers.

The page evaluates polynomials: a row for each term, of `sized`, filtered by the model and type
that are chosen, multiplied by their letters, summed, and the largest sum taken. What follows from
hardware is as in `plan` and `roofline`. All whole numbers stay below 2**53, so they are exact.
"""

import html
import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import sympy

from counting.views import matmul
from minigpt.errors import InputError
from minigpt.formulas.closed_forms import N, of_pass
from minigpt.formulas.decoded import of_a_token, told
from minigpt.formulas.figures import kv_bytes_per_token, sizes
from minigpt.formulas.notation import plain
from minigpt.formulas.sized import B, U, n, p, q, s, sized
from minigpt.formulas.symbols import Symbolic, symbolic
from minigpt.models.architectures import PRESETS
from minigpt.models.config import Config
from minigpt.planning.accelerators import BITS
from minigpt.planning.forward import Pass
from minigpt.planning.plan import PROMPT
from minigpt.views.panel import Panel
from minigpt.views.whatif_chart import DTYPES, WEIGHTS, chart

# Beside the run's own: each takes a second to run on symbols.
OFFERED = ("gpt2", "gpt2-xl", "llama-3.1-8b", "llama-3.1-405b", "gemma-3-27b", "deepseek-r1")
MOST_SEQUENCES = 256
EXACT = 2**53  # whole numbers below it have a double of their own
_LINE = 48  # letters of a formula on a line, on a narrow screen
_JOINED = "\N{NO-BREAK SPACE}"


def whatif(
    model: str, config: Config, context: int, batch: int = 1, dtype: str = "float16"
) -> Panel:
    """The panel of sliders.

    Args:
        model: the name of `config`, which stands first among those to choose from.
        context, batch, dtype: where the sliders stand at first; float16 in the place of a type
            that is not offered.
    """
    configs = {model: config} | {name: PRESETS[name] for name in OFFERED if name != model}
    most = max(MOST_SEQUENCES, batch)
    models: dict[str, dict[str, Any]] = {}
    terms: list[dict[str, Any]] = []
    left_out = []
    for name, one in configs.items():
        try:
            rows = [row for bits in (16, 32) for row in _terms(name, one, bits, most)]
            models[name] = _facts(name, one)
            terms += rows
        except InputError as error:
            left_out.append(str(error))
    first = {
        "model": model if model in models else next(iter(models)),
        "context": math.log2(context),
        "batch": batch,
        "dtype": dtype if dtype in DTYPES else DTYPES[0],
        "weights": WEIGHTS[0],
        "gpu": "rtx-3060-12gb",
    }
    told = "".join(f"<p>Left out: {html.escape(line)}.</p>" for line in left_out)
    return Panel("what-if", "What if", _TEXT + told, (chart(models, terms, first, most),))


_TEXT = f"""\
<p>Another model, context, batch, dtype or GPU. The page evaluates the closed forms that running
each model on symbols gave: the numbers are those of these commands, to the digit.</p>
<pre>minigpt count MODEL --past CONTEXT-1 --batch BATCH --dtype DTYPE
minigpt count MODEL --new-tokens PROMPT --logits last --dtype DTYPE
minigpt plan MODEL --context CONTEXT --batch BATCH --dtype DTYPE --weights-dtype WEIGHTS \
--gpu GPU</pre>
<p>A step decodes one token of each sequence, which looks at the whole context. A prompt comes
alone: the context, at most {PROMPT:,} tokens. Attention is fused, and what <code>plan</code>
assumes is assumed here. It fits, may fit, or does not: a runtime takes more or less. What several
GPUs take, which each run a part, <code>minigpt plan --gpus</code> says.</p>
"""


def _facts(model: str, config: Config) -> dict[str, Any]:
    """What the page knows of a model beside its terms."""
    experts = config.experts
    return {
        "limit": config.n_positions,
        "parameters": config.parameters,
        "experts": experts.n_routed_experts if experts else 0,
        "met": experts.num_experts_per_tok if experts else 0,
        "letters": "\n".join(_letters(model, config)),
    }


def _letters(model: str, config: Config) -> Iterator[str]:
    """The formulas of a step in letters, in lines, and what each letter is."""
    of = symbolic(config)
    flop = of_a_token(matmul(of_pass(of, Pass(1, N, B, "last")).counts))
    kept = kv_bytes_per_token(of.config, Pass(), of.times)["kv_bytes_per_token"]
    said = {
        "2mnp of a step = B (": f"{plain(flop) if of.gpt2 else told(flop)})",
        "cache of a token, float16 = ": plain(kept),
        "n tokens of context, ": ", ".join(f"{name} = {size:,}" for name, size in _values(of)),
    }
    for head, formula in said.items():
        together = formula.replace(" ", _JOINED).replace(f"{_JOINED}+{_JOINED}", " + ")
        yield from textwrap.wrap(head + together.replace(f",{_JOINED}", ", "), _LINE)


def _values(of: Symbolic) -> Iterator[tuple[str, int]]:
    """The letters and their values, those that stand for two others too."""
    known = sizes(of.of)
    if of.gpt2:
        known |= {"d": known["H"] * known["D"]}
    elif "G" in known:
        known |= {"H": known["K"] * known["G"]}
    if "L" not in known:
        known |= {"L": sum(size for name, size in known.items() if name.startswith("L_"))}
    yield from sorted(known.items())


def _terms(model: str, config: Config, bits: int, most: int) -> Iterator[dict[str, Any]]:
    """The terms of all figures, as rows.

    Raises:
        InputError: a model has no closed forms, or figures that a page cannot show exactly.
    """
    found = sized(config, f"float{bits}")
    top = _top(config, most)
    for figure, pieces in found.items():
        for piece, polynomial in enumerate(pieces):
            amounts = polynomial.as_coefficients_dict()
            highest = sum(abs(c) * m.subs(top) for m, c in amounts.items())
            if highest * _factor(figure, most) >= EXACT:
                raise InputError(f"{model}, whose {figure} may exceed 2**53")
            for monomial, amount in amounts.items():
                row = {"model": model, "bits": bits, "figure": figure, "piece": piece}
                yield row | {"times": int(amount)} | dict(_powers(monomial))


def _factor(figure: str, most: int) -> int:
    """What the page multiplies a figure by, at most: sequences, or bits."""
    if "kv_cache" in figure:
        return most
    return max(BITS.values()) if "weights" in figure else 1


def _top(config: Config, most: int) -> Mapping[Any, int]:
    """The letters at their largest."""
    length = min(config.n_positions, PROMPT)
    top = {n: config.n_positions, B: most, p: length, U: 0, s: 0, q: 0}
    if experts := config.experts:
        E, k = experts.n_routed_experts, experts.num_experts_per_tok
        top |= {U: E, s: most * k, q: length * k}
    return top


def _powers(monomial: Any) -> Iterator[tuple[str, int]]:
    """The letters of a product with their powers; of `Min(n, W)` W, as w, and of `Min(p, W)`."""
    for base, power in sympy.sympify(monomial).as_powers_dict().items():
        if isinstance(base, sympy.Min):
            (letter,) = base.free_symbols
            (window,) = (x for x in base.args if x.is_number)
            yield {n: "n_window", p: "p_window"}[letter], int(window)
        elif base != 1:
            yield str(base), int(power)
