"""Any function, with every instruction that it executes counted by the processor itself."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from counting import checks
from counting.machine.places import Places
from counting.machine.ran import Ran
from counting.machine.unavailable import Unavailable

T = TypeVar("T")


def executed(
    function: Callable[..., T],
    *args: Any,
    arrays: Mapping[str, np.ndarray] = MappingProxyType({}),
    **kwargs: Any,
) -> tuple[T, Ran]:
    """The result of `function(*args, **kwargs)`, and what the processor executed to get there.

    The function may be anything that can be called: of NumPy or SciPy, Python, a kernel by
    `ctypes`. It runs some 10,000 times slower, 10 us an instruction, in this thread alone: OpenBLAS
    is held to one thread meanwhile, and what other threads do is told by `Ran.threads`. The call
    itself, and what Python does inside the function, is counted as the library "Python". Nothing
    of it is left when it is over, with a result or with an exception, KeyboardInterrupt among them:
    the handler of SIGTRAP, the garbage collector, threads are as they were.

    Args:
        arrays: names of arrays whose memory's loads and stores are counted apart, as `Ran.moved`:
            each from its first byte to its last, gaps between its elements included; where two
            share bytes, the first one has them.

    Raises:
        TypeError: one of `arrays` is none.
        ValueError: one of them is called "elsewhere" or "gathered".
        Unavailable: the processor is not x86-64, the system not Linux, capstone (.[machine]) is
            missing, a debugger has the process, memory may not be both written and executed,
            SIGTRAP is blocked or taken, a call is being stepped already; or the function started
            a thread or a process, or executed more instructions than fit.
    """
    checks.function("function", function)
    if not find_spec("capstone"):
        raise Unavailable("executed() needs capstone: pip install -e '.[machine]' in the clone")
    from counting.machine.reduction import reduced
    from counting.machine.stepper import stepped

    places = Places(arrays)
    found = stepped(function, args, kwargs)
    return found.result, reduced(found, places)
