"""Prints docs/operations.md: what each function costs, and how we know.

python scripts/operations.py > docs/operations.md
"""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from counting.costs import COSTS, REGISTERED, how_known
from counting.rules import Rule

HEAD = """# What each operation costs

The rows of [the table](../counting/costs.py), by rule; printed by `python scripts/operations.py`.
What NumPy does in Python code over these, `np.median` or `np.linalg.norm`, is counted as its own
lines execute it. How we know:

- **executed**: the algorithm runs on numbers that count each of their operations, at drawn shapes,
  and takes exactly that;
- **bound**: how many it takes depends on the numbers; the worst case of the textbook's algorithm
  takes exactly that;
- **published**: what a library executes is not looked at; the source is in
  [the rules](../counting/published.py).

Kinds are of floating-point numbers; whole numbers and truth values have kinds of their own, `int`
and `logic`, and complex ones take what the textbook does with their parts.

| functions | one call | how we know |
| --- | --- | --- |
"""


def spelled(function: Callable[..., Any]) -> str:
    """A function as one writes it."""
    name = function.__name__
    if getattr(np.ndarray, name, None) is function:
        return f"`x.{name}`"
    return f"`{name}`"


def document() -> str:
    """The text of docs/operations.md."""
    by_rule: dict[Rule, list[Any]] = {}
    for function, rule in COSTS.items():
        if function in REGISTERED:
            continue
        by_rule.setdefault(rule, []).append(function)
    lines = []
    for rule, functions in by_rule.items():
        said = " ".join((rule.__doc__ or "").partition("\n\n")[0].split())
        names = sorted({spelled(function) for function in functions})
        lines.append(f"| {', '.join(names)} | {said} | {how_known(functions[0])} |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(document(), end="")
