"""Where arrays live."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minigpt.errors import InputError


def place(device: str) -> Callable[[np.ndarray], Any]:
    """What puts a host array onto `device`, "cpu" or "cuda".

    Raises:
        InputError: there is no such device here.
    """
    if device == "cpu":
        return lambda array: array
    if device != "cuda":
        raise InputError(f"unknown device {device!r}: cpu or cuda")
    try:
        import cupy
    except ImportError:
        raise InputError(
            "--device cuda needs CuPy: pip install 'minigpt-counting[cuda13]' (or cuda12)"
        ) from None
    if not cupy.is_available():
        raise InputError("--device cuda needs an NVIDIA GPU and its driver: none was found")
    return cupy.asarray


def to_host(array: Any) -> np.ndarray:
    """A bare array as a NumPy array."""
    return array.get() if hasattr(array, "get") else array
