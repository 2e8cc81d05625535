"""Any function, with every instruction that it executes counted by the processor itself."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from counting.machine.ran import Ran

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
    is held to one thread meanwhile, and what other threads do is told by `Ran.threads`. Each call
    is told apart from the ones before and after it; nothing of a call is left when it is over,
    with a result or with an exception, KeyboardInterrupt among them.

    Args:
        arrays: names of arrays (any shape and strides) whose memory's loads and stores are counted
            apart, as `Ran.moved`; where two share bytes, the first one has them.

    Raises:
        Unavailable: the processor is not x86-64, the system not Linux, capstone (.[machine]) is
            missing, a debugger has the process, memory may not be both written and executed,
            a call is being stepped already, or it executed more than fits.
    """
    raise NotImplementedError
