"""Calls of public functions, each a Python expression: what is wrong is named before it runs."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from sympy import Symbol

from minigpt import generate, intervene, load, run_with_cache, steps
from minigpt.checkpoint.resolve import resolve
from minigpt.inference.generate import continuation, encode
from minigpt.inference.sample import Sampling, sample
from minigpt.models.routing import expected
from minigpt.planning.count import count
from minigpt.planning.forward import Pass
from minigpt.planning.hardware import catalogue, find
from minigpt.planning.options import Options
from minigpt.planning.plan import plan
from minigpt.recording.read import read

RIGHT = ("3", "1", "None", "'ab'", "0.5", "np.int64(2)", "np.float32(0.5)", "True", "'float32'")
ODD = (
    *("'a'", "''", "b'ab'", "3.5", "-1", "0", "2**63", "10**400", "1e308", "float('nan')"),
    *("float('inf')", "np.array([1, 2])", "np.array(3)", "[]", "{}", "()", "['ab', 3]", "object()"),
    *("2 + 3j", "[[1, 2], [3]]", "range(3)", "'\\ud800'", "'\\0'", "Path('/dev/zero')"),
    *("np.bool_(True)", "np.float64('nan')", "np.str_('ab')", "{1, 2}", "Decimal('2')", "'llama'"),
    *(
        "Fraction(1, 2)",
        "{'*': 5}",
        "{3: abs}",
        "[1, 2, 999999]",
        "[[1.5]]",
        "iter('ab')",
        "lm",
        "[None]",
        "...",
        "False",
        "Symbol('n')",
        "Symbol('n', positive=True, integer=True)",
        "np",
    ),
)
# function: its arguments by name, and what is right for each; those that begin with _ by position
FUNCTIONS: dict[str, dict[str, str]] = {
    "generate": {
        "_lm": "lm", "_prompt": "'ab'", "max_new_tokens": "2", "temperature": "0.5",
        "top_k": "3", "top_p": "0.5", "seed": "1", "ignore_eos": "True", "chat": "False",
    },
    "load": {
        "_model": "'shakespeare'", "dtype": "'float32'", "device": "'cpu'", "revision": "None",
        "engine": "None", "progress": "None", "ring": "None",
    },
    "steps": {"_lm": "lm", "_tokens": "'ab'", "cache": "None", "logits": "'last'"},
    "run_with_cache": {
        "_lm": "lm", "_tokens": "[[1, 2]]", "names": "'h.0.*'", "cache": "None",
        "logits": "'all'", "budget": "10**6",
    },
    "count": {"_model": "'gpt2'", "_sizes": "Pass()"},
    "Pass": {
        "T": "2", "N": "1", "B": "3", "logits": "'all'", "dtype": "'float16'", "cache": "None",
        "capacity": "None", "assume": "expected",
    },
    "plan": {"_model": "'gpt2'", "_config": "config", "_gpu": "gpu", "_asked": "Options()"},
    "Options": {
        "gpus": "1", "dtype": "None", "weights_dtype": "'int8'", "context": "100", "batch": "2",
        "prompt": "10",
    },
    "Sampling": {
        "max_new_tokens": "2", "temperature": "0.5", "top_k": "3", "top_p": "0.5", "seed": "1",
        "ignore_eos": "False",
    },
    "encode": {"_lm": "lm", "_prompts": "['ab']", "chat": "False"},
    "continuation": {
        "_lm": "lm", "_prompts": "['ab']", "_sampling": "Sampling(2)", "chat": "False",
    },
    "sample": {
        "_logits": "np.array([0.5, 1])", "_rng": "np.random.default_rng(1)", "temperature": "0.5",
        "top_k": "1", "top_p": "0.5",
    },
    "catalogue": {"_file": "None"},
    "read": {"_path": "Path('/dev/null')"},
    "gpu._replace": {
        "flops": "{'float16/float32': 1e12}", "bandwidth": "1e12", "memory": "2**34",
        "link_bandwidth": "0", "cache": "0", "name": "'a'", "measured": "False",
    },
    "intervene": {"_lm": "lm", "_functions": "{'h.0.attn.softmax': abs}"},
    "resolve": {"_model": "'gpt2'"},
    "find": {"_name": "'h100'", "_file": "None"},
}  # fmt: skip
INSIDE = {
    "Pass": "count('gpt2', {})",
    "Options": "plan('gpt2', config, gpu, {})",
    "gpu._replace": "plan('gpt2', config, {})",
    "intervene": "within({})",
}


def draw(rng: Random) -> bytes:
    """A call of a function of minigpt, some of whose arguments may be wrong."""
    return drawn(rng, FUNCTIONS, INSIDE)


def drawn(
    rng: Random, functions: Mapping[str, Mapping[str, str]], inside: Mapping[str, str]
) -> bytes:
    """A call of one of some functions.

    Args:
        functions: as `FUNCTIONS`.
        inside: what a call of one stands in, by its name.
    """
    name = rng.choice(list(functions))
    wrong = rng.choice(list(functions[name]))
    said = []
    for argument, right in functions[name].items():
        value = right
        if argument == wrong or rng.random() < 0.1:
            value = rng.choice(ODD if rng.random() < 0.8 else RIGHT)
        if argument.startswith("_"):
            said.append(value)
        elif argument == wrong or rng.random() < 0.5:
            said.append(f"{argument}={value}")
    call = f"{name}({', '.join(said)})"
    return inside.get(name, "{}").format(call).encode()


def within(intervention: Any) -> None:
    """A token, with functions in the place of activations."""
    with intervention:
        next(generate(names()["lm"], "ab", max_new_tokens=1))


@cache
def names() -> dict[str, Any]:
    """What a call may name."""
    known: list[Any] = [generate, load, run_with_cache, steps, resolve, find, count, plan]
    known += [intervene, within, Pass, Options, Sampling, Path, Decimal, Fraction]
    known += [continuation, encode, sample, expected, catalogue, read, Symbol]
    arrays = {"np": np, "lm": load(), "config": resolve("gpt2"), "gpu": find("h100")}
    return {each.__name__: each for each in known} | arrays


def run(made: bytes, folder: Path) -> None:
    """Evaluates a call, and takes a few of what it gives."""
    found = eval(made.decode(), dict(names()))
    if isinstance(found, Iterator):
        for _ in islice(found, 3):
            pass
        found.close()  # type: ignore[attr-defined]
