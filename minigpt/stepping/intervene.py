"""A value of one's own in the place of an activation: patching, ablation, steering."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from counting import Counted
from counting.charge import Charge
from counting.observers import preceding
from counting.scope import at
from minigpt.checks import NAME, a, checked, function
from minigpt.errors import InputError
from minigpt.inference.load import LanguageModel
from minigpt.planning.forward import Pass
from minigpt.stepping.inspection import running
from minigpt.stepping.stepper import check_path
from minigpt.stepping.values import Values, gives, giving

Function = Callable[[Counted], Any]


@contextmanager
def intervene(lm: LanguageModel, functions: Mapping[str, Function]) -> Iterator[None]:
    """A `with` block in whose passes `function(value)` stands in the place of an activation.

    >>> with intervene(lm, {"h.3.attn.softmax": lambda value: np.zeros_like(value)}):
    ...     text = "".join(step.text for step in generate(lm, prompt))

    What a path gives is what its last operation gives, as in `run_with_cache`, and what follows
    reads what the function gave. That holds for every pass in the block, also of `generate`,
    `steps` and `run_with_cache`; an expert that no token meets gives nothing. Composites run open,
    and the model's own code runs in the place of recorded passes.

    What a function computes is charged under the path `intervention`, or nowhere if it computes
    in `counting.uncounted(lm.ledger)`; that its result is put in place costs nothing.

    Args:
        functions: by glob over paths. Each is given the counted array, whose `path` says which it
            is, and gives an array of the same shape and dtype, counted or of NumPy. It may also
            write into the one that it was given, and give that. Of several that match a path, each
            is given what the one before it gave.

    Raises:
        InputError: an argument cannot be used, or a glob matches no path that gives a value; in a
            pass, a function gives something else than an array of that shape and dtype.
    """
    checked("lm", lm, a("what load gives", LanguageModel))
    checked("functions", functions, a("a dict of functions by path", Mapping))
    known = giving(lm.model)
    for glob, value in functions.items():
        check_path(lm, checked("a path in functions", glob, NAME), known)
        checked(f"functions[{glob!r}]", value, function)
    with preceding(lm.ledger, _Intervention(lm, functions)):
        yield


class _Intervention:
    """The observer that puts values in place: it counts those of each path in the pass that runs.

    Attributes:
        values: what each path gives in this pass; None between two passes.
        seen: how many values each has given so far.
        charging: whether the pass is charged; what a debugger computes meanwhile, uncharged, is no
            part of it.
    """

    def __init__(self, lm: LanguageModel, functions: Mapping[str, Function]) -> None:
        self.lm, self.functions = lm, functions
        self.values: Values | None = None
        self.seen: Counter[str] = Counter()
        self.charging = True
        self.begins = Values(lm.config, Pass()).first

    def __call__(self, path: str, charge: Charge, operands: tuple[Any, ...], result: Any) -> None:
        if not gives(charge, result):
            return
        charging = self.lm.ledger.charging
        if path == self.begins and (sizes := running(sys._getframe())):
            self.values, self.charging = Values(self.lm.config, sizes), charging
            self.seen.clear()
        if self.values is None or charging != self.charging:
            return
        self.seen[path] += 1
        if self.seen[path] == self.values.of(path):
            for glob, made_by in self.functions.items():
                if fnmatchcase(path, glob):
                    _put(path, result, made_by)
            if path == self.values.last:
                self.values = None


def _put(path: str, value: Counted, made_by: Function) -> None:
    """Writes what a function makes of a value into its place.

    Raises:
        InputError: it is no array of the same shape and dtype.
    """
    with at("intervention"):
        made = made_by(value)
    if made is value:
        return
    new = made.data if type(made) is Counted else made
    if not (hasattr(new, "shape") and hasattr(new, "dtype")):
        raise InputError(
            f"the function for {path} gave a {type(made).__name__}; it must give an array"
        )
    if new.shape != value.shape or new.dtype != value.dtype:
        raise InputError(
            f"the function for {path} gave {new.shape} {new.dtype}; "
            f"what stands there is {value.shape} {value.dtype}"
        )
    if isinstance(new, np.ndarray) and not isinstance(value.data, np.ndarray):
        value.data.set(new)  # on a GPU
    else:
        value.data[...] = new
