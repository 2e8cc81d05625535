"""Blocks in which counted arrays may leave the count, as at a debugger's prompt."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

# Whether arrays may leave the count here, see `operations.uncounted`.
leaving: ContextVar[bool] = ContextVar("leaving", default=False)


def leave(function: Callable[..., Any], *operands: Any, **options: Any) -> Any:
    """What `function` gives of the bare arrays, where they may leave the count."""
    result = function(*_bare(operands), **_bare(options))
    out = options.get("out")
    if out is None:
        return result
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out  # counted still: `x += 1`


def _bare(x: Any) -> Any:
    """`x`, each counted array in it, which is what has a spec, as it is out of the count."""
    if hasattr(x, "spec"):
        return x.data
    if type(x) in (tuple, list):
        return type(x)(map(_bare, x))
    if isinstance(x, slice):
        return slice(_bare(x.start), _bare(x.stop), _bare(x.step))
    return {name: _bare(part) for name, part in x.items()} if type(x) is dict else x
