"""The state that a layer of linear attention keeps in the place of keys and values."""

from typing import Any

import numpy as np

from counting.scope import category
from minigpt.models.ops import Array


class State:
    """What one layer keeps of all tokens so far, of one as of a million: zeros before the first.

    Attributes:
        inputs: those that a convolution looks back at, (B, n - 1, …), the latest last.
        matrix: of each head (B, …, D, E), in 32 bits or more, for every token changes all of it.
        length: tokens that went into it.
    """

    HOLDS, CATEGORY = ("inputs", "matrix"), "state"

    def __init__(self, like: Array, inputs: tuple[Any, ...], matrix: tuple[Any, ...]) -> None:
        with category("state"):
            self.inputs = np.empty_like(like, shape=inputs)
            wide = np.result_type(like.dtype, np.float32)
            self.matrix = np.empty_like(like, dtype=wide, shape=matrix)
        self.inputs[...] = 0.0
        self.matrix[...] = 0.0
        self.length: Any = 0

    @property
    def nbytes(self) -> Any:
        """Bytes of it."""
        return self.inputs.nbytes + self.matrix.nbytes
