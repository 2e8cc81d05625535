"""The tensors of safetensors files: memory-mapped, or read, and converted, 1 MiB at a time.

A page of a mapped file counts as this process's memory once it has been touched. What is read from
here is let go of as reading goes on: a tensor and what it becomes are never both in memory.
"""

import math
import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from minigpt.checkpoint.dtypes import BY_CODE
from minigpt.errors import InputError
from minigpt.storage.reading import parsed

FLOATS = {code: dtype for code, dtype in BY_CODE.items() if code != "I8"}
_BITS = re.compile(r"(?:F|BF|I|U|C)(\d+)(?:_\w+)?")  # of a number, in the name of its dtype
LONGEST = 100_000_000  # bytes that safetensors allows a header
BLOCK, FLOAT32 = 1 << 20, 4  # bytes that are read and converted at a time, and of a number then


@dataclass(frozen=True)
class Entry:
    """What the header of a safetensors file says of a tensor.

    Attributes:
        code: of its dtype, as safetensors names it.
        offset: where it begins, in bytes of the file.
        nbytes: that it takes there.
    """

    file: Path
    code: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def count(self) -> int:
        """The numbers that it has."""
        return math.prod(self.shape)

    def same(self, other: Any) -> bool | None:
        """Whether both hold the same numbers; None where a header alone cannot tell."""
        return None if (self.shape, self.code) == (other.shape, other.code) else False


@dataclass(frozen=True)
class Tensor(Entry):
    """Where a tensor lies in a file on this machine."""

    mapped: mmap.mmap  # the whole file, one for all its tensors
    status: os.stat_result  # of the file when it was mapped

    @property
    def dtype(self) -> np.dtype:
        """One of `FLOATS`; of another code `KeyError`, so ask `code` first."""
        return FLOATS[self.code]

    @property
    def pieces(self) -> tuple["Tensor", ...]:
        """The tensors in files that it is made of: itself."""
        return (self,)

    @property
    def together(self) -> int:
        """How many rows along the first axis are read at least, and begin a block."""
        return 1

    def same(self, other: "Tensor") -> bool:
        """Whether both hold the same numbers."""
        pairs = zip(self.blocks(), other.blocks(), strict=True)
        return super().same(other) is None and all(np.array_equal(a, b) for (_, a), (_, b) in pairs)

    def mappable(self, dtype: np.dtype) -> bool:
        """Whether `map` gives it as `dtype`, and aligned, or each product would copy it."""
        return self.dtype == dtype and self.offset % dtype.alignment == 0

    def map(self, rows: slice = slice(None)) -> np.ndarray:
        """The tensor, or some of it along its first axis, in the file itself."""
        dtype = FLOATS.get(self.code, np.dtype(np.uint8))
        flat = np.frombuffer(self.mapped, dtype, self.count, self.offset)
        return flat.reshape(self.shape or (1,))[rows]

    def blocks(self, turned: bool = False) -> Iterator[tuple[slice, np.ndarray]]:
        """The tensor as it is stored, in parts along its first axis: each with its place.

        A part is of `BLOCK` bytes, were it float32, or of as few rows as can be. It is to be used
        before the next is asked for: then the memory that it takes is given back.

        Args:
            turned: gives parts of the transpose.
        """
        first, *others = (self.shape[::-1] if turned else self.shape) or (1,)
        together = 1 if turned else self.together
        step = max(1, BLOCK // (FLOAT32 * max(1, math.prod(others)) * together)) * together
        whole = self.map().T if turned else None
        for begin in range(0, first, step):
            where = slice(begin, begin + step)
            yield where, self.map(where) if whole is None else whole[where]
            for piece in self.pieces:
                piece.release()

    def release(self) -> None:
        """Gives back the memory of those pages of the file that hold it; they are read anew."""
        begin = self.offset // mmap.PAGESIZE * mmap.PAGESIZE
        if self.nbytes:
            self.mapped.madvise(mmap.MADV_DONTNEED, begin, self.offset + self.nbytes - begin)

    def read(self, dtype: np.dtype) -> np.ndarray:
        """The tensor as `dtype`, in memory of its own."""
        array = np.empty(self.shape, dtype)
        with np.errstate(over="ignore"):  # infinities show in the logits
            for where, block in self.blocks():
                array[where] = block
        return array


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
        found = list(entries(file, mapped[: header_end(mapped[:8])], len(mapped)))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(
            f"{file} is not a whole safetensors file ({error}): get it again"
        ) from None
    for key, entry in found:
        yield key, Tensor(**vars(entry), mapped=mapped, status=status)


def header_end(begin: bytes) -> int:
    """Where the header of a safetensors file ends, in bytes, as its first 8 say.

    Raises:
        ValueError: they cannot be.
    """
    length = int.from_bytes(begin[:8], "little")
    if len(begin) < 8 or not 2 <= length <= LONGEST:
        raise ValueError(f"its header would be of {length} bytes")
    return 8 + length


def entries(file: Path, begin: bytes, size: int | None) -> Iterator[tuple[str, Entry]]:
    """What the header of a safetensors file says of its tensors, by their keys.

    Args:
        begin: the bytes of the file as far as its header goes.
        size: of the whole file, if it is known.

    Raises:
        ValueError: the header cannot be, or is not that of a file of this size.
    """
    header, end = parsed(begin[8:].decode()), len(begin)
    header.pop("__metadata__", None)
    last = end
    for key, entry in header.items():
        code, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        found = Entry(file, code, shape, end + start, stop - start)
        whole = all(type(n) is int and n >= 0 for n in (*shape, start, found.nbytes))
        bits = _BITS.fullmatch("U8" if code == "BOOL" else code)  # none: of a dtype yet to come
        if not whole or (bits and found.count * int(bits[1]) != 8 * found.nbytes):
            raise ValueError(f"its header says of {key} what cannot be")
        yield key, found
        last = max(last, end + stop)
    if size not in (last, None):
        raise ValueError(f"it has {size} bytes, and its header asks for {last}")
