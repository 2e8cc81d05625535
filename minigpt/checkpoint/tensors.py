"""The tensors of safetensors files: memory-mapped, or read and converted one by one."""

import json
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minigpt.checkpoint.dtypes import BY_CODE
from minigpt.errors import InputError

FLOATS = {code: dtype for code, dtype in BY_CODE.items() if code != "I8"}


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in a file."""

    file: Path
    mapped: mmap.mmap  # the whole file, one for all its tensors
    code: str  # of its dtype, as safetensors names it
    shape: tuple[int, ...]
    offset: int
    status: os.stat_result  # of the file when it was mapped

    @property
    def dtype(self) -> np.dtype:
        """One of `FLOATS`; of another code `KeyError`, so ask `code` first."""
        return FLOATS[self.code]

    @property
    def count(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.count * self.dtype.itemsize

    def map(self) -> np.ndarray:
        """The tensor in the file itself."""
        flat = np.frombuffer(self.mapped, self.dtype, self.count, self.offset)
        return flat.reshape(self.shape)

    def read(self, dtype: np.dtype) -> np.ndarray:
        """The tensor as `dtype`: mapped if that is how it is stored, else converted."""
        if self.dtype == dtype:
            array = self.map()
            return array if array.flags.aligned else array.copy()  # or each product would copy it
        flat = np.fromfile(self.file, self.dtype, self.count, offset=self.offset)
        with np.errstate(over="ignore"):  # infinities show in the logits
            return flat.astype(dtype).reshape(self.shape)


Stored = Mapping[str, Tensor]  # a checkpoint: key -> tensor
Held = Iterator[tuple[str, Any]]  # keys, and arrays as a model is to hold them
Progress = Callable[[int, int], None]  # is told the bytes done, and those in all


def tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a safetensors file, by their keys, of whatever dtype.

    Raises:
        InputError: the file is not whole.
    """
    try:
        with safe_open(file, framework="np"):  # checks the header and that the file is whole
            pass
        with file.open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            status = os.fstat(stream.fileno())
        begin = 8 + int.from_bytes(mapped[:8], "little")
        header: dict[str, Any] = json.loads(mapped[8:begin])
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{file} is not a whole safetensors file ({error}): get it again"
        ) from None
    header.pop("__metadata__", None)
    for key, entry in header.items():
        offset = begin + entry["data_offsets"][0]
        yield key, Tensor(file, mapped, entry["dtype"], tuple(entry["shape"]), offset, status)
