"""Faster arrays under the model's code: same meaning, same counts, own kernels."""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minigpt.fast.kernels.machine import Machine


def enabled() -> bool:
    """Whether a CPU may use kernels: $MINIGPT_FAST is not 0, and llvmlite is there to make them."""
    return _wanted() and find_spec("llvmlite") is not None


def machine() -> "Machine | None":
    """The kernels of this machine; None if they are not to be used, or its processor has none."""
    if not enabled():
        return None
    from minigpt.fast.kernels.machine import here

    return here()


def missing() -> str:
    """What to install for kernels where they are wanted; "" if it is there."""
    if not _wanted() or find_spec("llvmlite"):
        return ""
    return "pip install -e '.[fast]' in the clone for kernels of this processor"


def _wanted() -> bool:
    return os.environ.get("MINIGPT_FAST") != "0"
