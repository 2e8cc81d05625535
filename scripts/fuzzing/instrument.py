"""Calls of what counting makes public: a wrong argument is named, in an error of a check."""

import re
from collections import Counter
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import counting
from counting.costs import REGISTERED
from counting.machine.unavailable import Unavailable
from fuzzing import calls
from minigpt.errors import InputError

# As in `calls`; what has its methods stands before them.
FUNCTIONS: dict[str, dict[str, str]] = {
    "Cost": {"exp": "2", "fma": "np.int32(2)"},
    "Cost(exp=2).__mul__": {"_times": "3"},
    "Counted": {"_data": "np.ones(3)", "ledger": "Ledger()"},
    "Counts": {"_columns": "Ledger().columns", "_rows": "{}"},
    "Ledger": {"categories": "['weights', 'activations']"},
    "Ledger().snapshot().by": {"_group": "str.upper"},
    "Ledger().snapshot().total": {"_column": "'calls'"},
    "Ledger().snapshot().where": {"path": "'h.*'", "operation": "'*'"},
    "Scalar": {"_value": "2.0", "_tally": "Counter()"},
    "ShapeArray": {"_shape": "(2, 3)", "_dtype": "'float32'"},
    "category": {"_name": "'weights'"},
    "counted": {"_function": "np.exp"},
    "executed": {"_function": "len", "_text": "'ab'", "arrays": "{'x': np.ones(3)}"},
    "interval": {"_ledger": "Ledger()", "thread": "None"},
    "observing": {"_ledger": "Ledger()", "_observer": "print"},
    "register": {
        "_function": "lambda x: x + 1", "_rule": "lambda out, x: Cost(add=out[0])",
        "_example": "np.ones(3)", "_shape": "None",
    },
    "scalars": {"_values": "np.ones(3)", "_tally": "Counter()"},
    "scope": {"_name": "'h.0'"},
    "stop_at": {"_glob": "'h.0'", "ledger": "None"},
    "trace": {"_function": "np.exp", "_shape": "(2, 3)", "dtype": "'float32'"},
    "uncounted": {"ledger": "None"},
}  # fmt: skip
SAID = {  # how errors call an argument, where that is not its name
    "shape": "shape|dimension", "values": "value", "example": "example|array", "text": "len",
    "categories": "categor", "name": "name|category", "data": "data|array|asarray|elements",
    "value": "value|int too large", "function": "function|exp",
}  # fmt: skip
ENTERED = ("category", "interval", "observing", "scope", "stop_at", "uncounted")
INSIDE = {"register": "forgotten({})", **dict.fromkeys(ENTERED, "entered({})")}


def draw(rng: Random) -> bytes:
    """A call, some of whose arguments may be wrong."""
    return calls.drawn(rng, FUNCTIONS, INSIDE)


def entered(block: AbstractContextManager[Any]) -> Any:
    """An operation in a `with` block."""
    with block:
        return counting.Counted(np.ones(3)) + 1


def forgotten(made: Any) -> None:
    """Takes a registered function out of the table again."""
    REGISTERED.pop(made.function)


@cache
def names() -> dict[str, Any]:
    """What a call may name."""
    public = {name: getattr(counting, name) for name in counting.__all__}
    return calls.names() | public | {"Counter": Counter, "entered": entered, "forgotten": forgotten}


def run(made: bytes, folder: Path) -> None:
    """Evaluates a call.

    Raises:
        InputError: it was refused by an error that names one of its arguments.
    """
    call = made.decode()
    try:
        eval(call, dict(names()))
    except (TypeError, ValueError, OverflowError) as error:
        if not re.search(_arguments(call), str(error)):
            raise
        raise InputError(str(error)) from None
    except Unavailable as error:  # no instruction can be stepped here
        raise InputError(str(error)) from None


def _arguments(call: str) -> str:
    """A pattern of what an error may call the arguments of the outermost function of a call."""
    starts = {name: call.find(f"{name}(") for name in FUNCTIONS}
    first = min((at, -len(name), name) for name, at in starts.items() if at >= 0)[2]
    given = (argument.removeprefix("_") for argument in FUNCTIONS[first])
    return "|".join(rf"\b(?:{SAID.get(name, name)})" for name in given)
