"""What a path gives: what its last operation gives that runs there in a pass.

Which one that is nobody knows when it runs, for a part is left and entered again. A pass on shapes
tells: it runs the same operations, and control flow asks no data but which experts are met.
"""

from collections import Counter
from functools import lru_cache
from typing import Any

from counting.charge import Charge
from counting.observers import observing
from minigpt.models.config import Config
from minigpt.models.model import Model
from minigpt.models.paths import component, layer_number
from minigpt.planning.forward import Pass, ready
from minigpt.stepping.inspection import every_path

Kind = tuple[int | None, str]  # a layer of the short model and a part of it; or no layer, a path


def gives(charge: Charge, result: Any) -> bool:
    """Whether an operation gives a value: not a write in place, nor room that nothing is in yet."""
    return result is not None and charge.operation != "empty_like"


class Values:
    """How many values each path gives in a pass of some sizes; the last is what it gives.

    Attributes:
        first, last: the paths at which a pass begins and ends.
    """

    def __init__(self, config: Config, sizes: Pass) -> None:
        few, self._alike = config.short()
        self.first, self.last, self._of_kind = _on_shapes(few, sizes)

    def of(self, path: str) -> int:
        """How many values a path gives: 0 if none, or there is no such path."""
        number = layer_number(path)
        if number is None:
            return self._of_kind.get((None, path), 0)
        if number >= len(self._alike):
            return 0
        return self._of_kind.get((self._alike[number], component(path)), 0)


@lru_cache(maxsize=256)
def _on_shapes(few: Config, sizes: Pass) -> tuple[str, str, dict[Kind, int]]:
    """The first and the last path of a pass, and how many values a part of each kind gives."""
    came: list[str] = []

    def observer(path: str, charge: Charge, operands: tuple[Any, ...], result: Any) -> None:
        if gives(charge, result):
            came.append(path)

    ledger, run = ready(few, sizes)
    with observing(ledger, observer):
        run()
    kinds: dict[Kind, int] = {}
    for path, n in Counter(came).items():
        number = layer_number(path)
        kinds[number, path if number is None else component(path)] = n
    return came[0], came[-1], kinds


def giving(model: Model) -> list[str]:
    """The paths that give a value in a pass over a prompt or over a token, in order."""
    sizes = [Pass(T) for T in range(1, min(2, model.config.n_positions) + 1)]
    passes = [Values(model.config, of) for of in sizes]
    return [path for path in every_path(model) if any(values.of(path) for values in passes)]
