"""What one decoded token of a decoder costs, as a line of algebra; of latents, in both ways."""

from typing import Any, NamedTuple

import sympy
from sympy import Symbol

from counting.views import matmul
from minigpt.formulas.closed_forms import Formulas
from minigpt.formulas.notation import plain
from minigpt.formulas.symbols import B, N, T, letter, sizes
from minigpt.planning.forward import Forward, Pass, forward

n = Symbol("n", integer=True, positive=True)


def of_a_token(expr: Any) -> Any:
    """What is of a pass, for one token that looks at n keys, its own included."""
    one = sympy.expand(sympy.sympify(expr).xreplace({B: sympy.Integer(1), T: sympy.Integer(1)}))
    window = letter("W")
    seen = {sympy.Min(N, window - 1): sympy.Min(n, window) - 1}
    return sympy.expand(one.xreplace(seen).xreplace({N: n - 1}))


def told(expr: Any) -> str:
    """FLOP of a decoded token as a person writes them: L (…) + 4 L … n + 2 d V."""
    expanded = sympy.expand(expr)
    parts: list[str] = []
    layers = sorted((s for s in expanded.free_symbols if str(s).startswith("L")), key=str)
    once, per_key = sympy.Integer(0), sympy.Integer(0)
    for term in sympy.Add.make_args(expanded):
        if term.has(n):
            per_key += term
        elif not term.has(*layers) if layers else True:
            once += term
    for number in layers:
        constant = sympy.expand(expanded - once - per_key).coeff(number)
        if constant != 0:
            text = plain(constant)
            parts.append(f"{number} ({text})" if constant.is_Add else f"{number} {text}")
    parts += [plain(part) for part in (per_key, once) if part != 0]
    return " + ".join(parts)


class Ways(NamedTuple):
    """Attention to latents as they are, beside keys and values that are made of them.

    Attributes:
        compressed, expanded: matmul FLOP of a decoded token at n keys, by what the cache holds.
        elements: of both caches, of a token.
        crossover: new tokens at once from which it is fewer FLOP to make keys and values of all
            cached latents anew than to attend to the latents, where many more are cached.
        at: the crossover at the sizes of the model.
    """

    compressed: Any
    expanded: Any
    elements: tuple[Any, Any]
    crossover: Any
    at: float


def ways(found: Formulas) -> Ways | None:
    """Both ways of latent attention; None for models without."""
    of = found.of
    if not of.of.latent_cache:
        return None
    runs: dict[str, Forward] = {}
    for cache in ("compressed", "expanded"):
        runs[cache] = forward(of.meeting(2), Pass(T, N, B, cache=cache))
    several = len(of.times)

    def layers(flop: Any) -> Any:  # of one layer of each kind, alike in attention
        return sympy.expand(flop) * sympy.Add(*of.times.values()) / several

    mixed = {cache: layers(_mixing(run, found)) for cache, run in runs.items()}
    total = found.closed_forms["views"]["matmul"]["total"]
    rest = sympy.expand(total - mixed[found.cache or "compressed"])
    made = matmul(runs["expanded"].counts.by(of.roles.part_of)["latents"])
    again = mixed["expanded"] + layers(made).xreplace({T: N})
    more = sympy.expand(mixed["compressed"] - again)
    by_keys = sympy.expand(more.coeff(N) / B)  # a T - b, of each of many cached tokens
    crossover = sympy.factor(-by_keys.coeff(T, 0) / by_keys.coeff(T, 1))
    values = {letter(name): value for name, value in sizes(of.of).items()}
    held = [layers(run.counts.bytes_written["kv_cache"] / (2 * B * T)) for run in runs.values()]
    token = [of_a_token(rest + mixed[cache]) for cache in runs]
    return Ways(*token, (held[0], held[1]), crossover, float(crossover.subs(values)))


def _mixing(run: Forward, found: Formulas) -> Any:
    counts = run.counts.by(found.of.roles.part_of)
    return sum(matmul(counts[name]) for name in ("latents", "qk", "av"))
