"""Faster arrays under the model's text: same meaning, same counts, own kernels."""

import os
from importlib.util import find_spec

INSTALL = "pip install '.[fast]' in the clone for kernels made for this processor"


def enabled() -> bool:
    """Whether a CPU may use kernels: $MINIGPT_FAST is not 0, and llvmlite is there to make them."""
    return os.environ.get("MINIGPT_FAST") != "0" and find_spec("llvmlite") is not None
