"""A forward pass as operations, one by one; and what named parts of it give, kept."""

import threading
from collections.abc import Iterator
from contextvars import copy_context
from fnmatch import fnmatchcase
from queue import SimpleQueue
from typing import Any

import numpy as np

from counting import Counted, observing
from counting.charge import Charge
from counting.scope import outermost
from counting.stepping.operation import Operation
from minigpt.checks import NAME, a, checked, shown, whole
from minigpt.errors import InputError
from minigpt.inference.generate import encode
from minigpt.inference.load import LanguageModel
from minigpt.models.cache import KVCache
from minigpt.planning.forward import Pass, one_of
from minigpt.stepping.stepper import check_path
from minigpt.stepping.values import gives, giving


class _Abandoned(Exception):
    """Nobody asks for the next operation any more."""


def steps(
    lm: LanguageModel, tokens: Any, cache: KVCache | None = None, logits: str = "last"
) -> Iterator[Operation]:
    """The operations of one forward pass, each when it has run and before the next does.

    The pass runs in a thread of its own, which stands still between two operations: an operation
    and its arrays live no longer than the caller keeps them. Composites run open. Meanwhile other
    passes of the same model may run.

    Args:
        tokens: a text, or numbers (B, T).
        cache: that of passes before; a new one for these tokens alone if None.
        logits: of the "last" position, or of "all".

    Raises:
        InputError: an argument cannot be used.
    """
    return _steps(lm, _rows(lm, tokens, cache, logits), cache, logits)


def _steps(
    lm: LanguageModel, rows: np.ndarray, cache: KVCache | None, logits: str
) -> Iterator[Operation]:
    ready: SimpleQueue[Operation | BaseException | None] = SimpleQueue()
    go_on: SimpleQueue[bool] = SimpleQueue()
    number = 0

    def observer(path: str, charge: Charge, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal number
        number += 1
        ready.put(Operation(number, path, charge, inputs, output))
        if not go_on.get():
            raise _Abandoned

    def run() -> None:
        if not go_on.get():
            return
        end: BaseException | None = None
        try:
            with observing(lm.ledger, observer), outermost():
                own = lm.model.new_cache(*rows.shape) if cache is None else cache
                lm.model(rows, own, logits)
        except _Abandoned:
            return
        except BaseException as error:
            end = error
        ready.put(end)

    thread = threading.Thread(target=copy_context().run, args=(run,), daemon=True)

    def next_one() -> Operation | BaseException | None:
        with lm.turn(thread.ident):
            go_on.put(True)
            return ready.get()

    thread.start()
    try:
        while (found := next_one()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
            del found  # its arrays would live on while the next operation runs
    finally:
        go_on.put(False)
        thread.join()


def run_with_cache(
    lm: LanguageModel,
    tokens: Any,
    names: str = "*",
    *,
    cache: KVCache | None = None,
    logits: str = "last",
    budget: int = 1 << 30,
) -> tuple[Counted, dict[str, Counted]]:
    """The logits of a forward pass, and what the named paths gave: activations, by path.

    What a path gives is what its last operation gives: attention's pattern at `h.0.attn.softmax`,
    the residual stream after a block at `h.0`. Composites run open. It is kept, not copied, and
    counts as live until it is let go.

    Args:
        tokens: a text, or numbers (B, T).
        names: a glob over paths.
        cache: that of passes before; a new one for these tokens alone if None.
        logits: of the "last" position, or of "all".
        budget: the most bytes to keep.

    Raises:
        InputError: an argument cannot be used, no path that gives anything matches, or what does
            exceeds the budget.
    """
    checked("budget", budget, whole(0, 2**63 - 1))
    rows = _rows(lm, tokens, cache, logits)
    check_path(lm, checked("names", names, NAME), giving(lm.model))
    kept: dict[str, Counted] = {}
    nbytes = 0

    def observer(path: str, charge: Charge, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal nbytes
        if not gives(charge, output) or not fnmatchcase(path, names):
            return
        nbytes += output.nbytes - (kept[path].nbytes if path in kept else 0)
        if nbytes > budget:
            raise InputError(
                f"the activations that match {names!r} exceed the budget of {budget:,} bytes at "
                f"{path}: choose fewer, or raise budget"
            )
        kept[path] = output

    with lm.turn(), observing(lm.ledger, observer):
        own = lm.model.new_cache(*rows.shape) if cache is None else cache
        return lm.model(rows, own, logits), kept


def _rows(lm: LanguageModel, tokens: Any, cache: KVCache | None, logits: str) -> np.ndarray:
    """The numbers (B, T) of a pass. Raises InputError unless the model can run it."""
    checked("lm", lm, a("what load gives", LanguageModel))
    checked("cache", cache, a("what new_cache of a model gives, or None", KVCache, type(None)))
    one_of("logits", logits, ("last", "all"))
    if isinstance(tokens, str):
        rows = encode(lm, [tokens])
    else:
        try:
            rows = np.atleast_2d(np.asarray(tokens))
        except (TypeError, ValueError, OverflowError):  # counted, ragged, or far too large
            rows = np.array(None)
    known = lm.config.vocab_size
    fits = rows.ndim == 2 and rows.size and rows.dtype.kind in "iu"
    if not fits or rows.min() < 0 or rows.max() >= known:
        what = f"it must be a text, or whole numbers (B, T) below {known}, the vocabulary"
        raise InputError(f"tokens is {shown(tokens)}; {what}")
    B, T = rows.shape
    Pass(T, cache.length if cache else 0, B, capacity=cache and cache.capacity).check(lm.config)
    if cache and (made_for := getattr(cache[0], cache[0].HOLDS[0]).shape[0]) != B:
        raise InputError(f"tokens are of {B} sequences, and cache is of {made_for}")
    return rows
