"""Who else counts a NumPy program, and how what they say differs from what is counted here.

JAX compiles the function with `jax.numpy` for NumPy, flopscope runs it with `flopscope.numpy`.
"""

import re
from collections import Counter
from importlib import import_module
from math import prod
from typing import Any, NamedTuple

import numpy as np

from counting import Counts, counted
from counting.views import exact, flops
from minigpt.errors import InputError
from minigpt.formulas.other_counters import installed, quiet
from minigpt.formulas.programs import in_place_of_numpy, line, loaded, name_here

TRANSCENDENTAL = ("exp", "tanh", "sqrt", "sin", "cos", "log", "pow", "trig")


class Beside(NamedTuple):
    """What another counter says of a program.

    Attributes:
        flop: what it reports, None if it could not.
        differences: by how much each changes our FLOP; with the rest, the whole difference.
        notes: what it leaves out without an amount, or why it could not report.
    """

    name: str
    flop: int | None
    differences: dict[str, int]
    notes: list[str]

    def ratio(self, ours: int) -> float | None:
        """What it reports, over our FLOP; None if one of them is not there."""
        return self.flop / ours if self.flop is not None and ours else None


def beside(path: str) -> tuple[Counts, list[Beside]]:
    """What a program costs, and what each peer says of it.

    Raises:
        InputError: the file has no `program` and `arguments`, or they cannot be counted.
    """
    program, arguments = loaded(path)
    try:
        _, ledger = counted(program)(*map(np.array, arguments))
    except Exception as error:
        raise InputError(f"{path}: {line(error)}") from error
    counts = ledger.snapshot()
    return counts, [_asked(package, program, arguments, counts) for package in PEERS]


@quiet()
def _asked(package: str, program: Any, arguments: tuple[Any, ...], counts: Counts) -> Beside:
    name, ask = PEERS[package]
    if not installed(package):
        return Beside(name, None, {}, [f"not installed: pip install {package} brings it"])
    try:
        return ask(program, tuple(map(np.array, arguments)), counts)
    except Exception as error:  # whatever another package raises is its answer
        return Beside(name, None, {}, [f"cannot run it: {line(error)}"])


def _jax(program: Any, arguments: tuple[Any, ...], counts: Counts) -> Beside:
    jax, numpy = import_module("jax"), import_module("jax.numpy")
    lowered = jax.jit(in_place_of_numpy(program, numpy, numpy.asarray, {})).lower(*arguments)
    compiled = lowered.compile()
    analyses = (x.cost_analysis() or {} for x in (lowered, compiled))
    before, reported = (int(found.get("flops", 0)) for found in analyses)  # 0 is left out
    text = compiled.as_text()
    differences = {
        "as transcendentals are apart": -sum(counts.total(kind) for kind in TRANSCENDENTAL),
        "as operations on integers and truth values count": counts.cost.operations - flops(counts),
        "as selects and conversions count": selected(lowered.as_text(dialect="hlo")),
        "by compiling: shared, folded, computed again": reported - before,
    }
    signs = {
        " while(": "a loop of XLA's counts once, however often it runs",
        " custom-call(": "calls of libraries, as LAPACK's, count nothing",
    }
    notes = [note for sign, note in signs.items() if sign in text]
    notes += ["summed in float32"] * (reported >= 2**24)
    rest = "in the rest: algorithms of its own, as for sort and argmax, and what is left out"
    return _summed("JAX cost_analysis", reported, flops(counts), differences, rest, notes)


def selected(text: str) -> int:
    """The elements that selects and conversions give, in a program as HLO text."""
    parts = re.split(r"^(?:ENTRY )?(\S+) \{$", text, flags=re.M)
    sizes = dict.fromkeys(parts[1::2], 0)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):  # each after those it calls
        for shape in re.findall(r"= \w+\[([\d,]*)\]\S* (?:select|convert)\(", body):
            sizes[name] += prod(int(n) for n in shape.split(",") if n)
        for called in re.findall(r" call\(.*to_apply=(\S+)$", body, flags=re.M):
            sizes[name] += sizes[called]
    return sizes[parts[-2]]


def _flopscope(program: Any, arguments: tuple[Any, ...], counts: Counts) -> Beside:
    scope, numpy = import_module("flopscope"), import_module("flopscope.numpy")
    weights = import_module("flopscope._weights")

    def run() -> list[Any]:
        with scope.BudgetContext(flop_budget=10**30, quiet=True) as budget:
            function = in_place_of_numpy(program, numpy, numpy.array, {})
            arrays = [numpy.array(x) for x in arguments]
            before = len(budget.op_log)  # arrays made of bare ones are billed, and no part of it
            function(*arrays)
            return list(budget.op_log[before:])

    billed = run()
    weights.reset_weights()  # as FLOPSCOPE_DISABLE_WEIGHTS does, for new processes
    try:
        plain = run()
    finally:
        weights.load_weights()
    reported = sum(r.flop_cost for r in billed)
    heavy = {r.op_name: weights.get_weight(r.op_name) for r in billed}
    heavy |= {r.resolved_dtype: weights.get_dtype_rate(r.resolved_dtype or "bool") for r in billed}
    weighed = ", ".join(f"{name} {n:g}" for name, n in heavy.items() if n > 1)
    theirs: Counter[str] = Counter()
    for r in plain:
        theirs[name_here(r.op_name)] += r.flop_cost
    differences = {
        f"by weights: {weighed}": reported - theirs.total(),
        "as a product is mp(2n - 1), not 2mnp": exact(counts) - flops(counts),
    }
    ours = {operation: exact(counts.where("*", operation)) for _, operation in counts}
    for name in sorted(theirs.keys() | ours):
        where = "listed there alone" if name not in ours else "by another rule"
        where = where if name in theirs else "listed here alone"
        where = "moved alone here" if ours.get(name) == 0 else where
        differences[f"in {name}, {where}"] = theirs[name] - ours.get(name, 0)
    return _summed("flopscope", reported, flops(counts), differences, "in the rest", [])


def _summed(
    name: str, reported: int, ours: int, named: dict[str, int], rest: str, notes: list[str]
) -> Beside:
    """A figure with its differences, those of 0 left out."""
    differences = named | {rest: reported - ours - sum(named.values())}
    return Beside(name, reported, {k: n for k, n in differences.items() if n}, notes)


PEERS = {"jax": ("JAX cost_analysis", _jax), "flopscope": ("flopscope", _flopscope)}
