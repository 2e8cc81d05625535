"""The bytes of weights that a pass must read: each once, however often the code comes to it."""

from collections import Counter
from functools import lru_cache
from typing import Any

from counting import Counted, observing
from counting.charge import Charge
from minigpt.models.config import Config
from minigpt.planning.forward import Pass, ready_of_kinds


@lru_cache(maxsize=256)
def read_once(config: Config, sizes: Pass) -> int:
    """The bytes of weights that a pass reads, rows that it takes from a table by number left out.

    The code of a gpt-oss reads its sinks twice, in a maximum and in what is subtracted from it; a
    kernel reads them once.
    """
    ledger, run = ready_of_kinds(config, sizes)
    times = config.times()
    views: dict[int, tuple[Counted, int]] = {}  # by id, so each is held until all have theirs

    def observe(path: str, charge: Charge, operands: Any, result: Any) -> None:
        for x in operands:
            weight = isinstance(x, Counted) and x.spec.category == "weights"
            if weight and charge.operation != "take":
                views[id(x)] = x, times(path)

    with observing(ledger, observe):
        run()
    read = Counter[int]()
    for x, n in views.values():
        tensor = x if x.base is None else x.base
        read[id(tensor)] = min(n * tensor.nbytes, read[id(tensor)] + n * x.nbytes)
    return read.total()
