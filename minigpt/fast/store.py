"""Which tensors of a checkpoint a CPU holds as they are, and which it packs once.

Either are read into private memory, or mapped where they are many: never both.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

import numpy as np

from minigpt.checkpoint.tensors import Held, Progress, Stored, Tensor
from minigpt.fast import machine
from minigpt.fast.packed import DTYPES, FLOAT, PackedMatrix, Parts, packed_blocks, packed_rows
from minigpt.fast.packing import Layouts, Pack
from minigpt.models.config import Config
from minigpt.notes import note
from minigpt.storage.kept import PACKED
from minigpt.storage.private import PrivateFolder, unusable

SMALL = 1 << 26  # bytes that are packed sooner than a file of them is written
READ = 1 << 29  # bytes at most that are read: private memory gets huge pages, mapped files not
RELAID = 1 << 30  # bytes of float32 at most that are packed for rows in order, 15 % faster to read


T = TypeVar("T")


def hold(config: Config, stored: Stored, dtype: str, progress: Progress) -> Held:
    """The tensors by key, each matrix that multiplies as a `PackedMatrix` of `dtype`.

    Where nothing has to be converted, tensors are taken from the checkpoint. The others are
    packed, written to the user's cache, and taken from there at this and every later start.
    """
    kernels, wanted = machine(), DTYPES[dtype]
    layouts = {key: config.layout(key, len(tensor.shape)) for key, tensor in stored.items()}
    unfit = {
        key: stored[key]
        for key, way in layouts.items()
        if way == "columns" or (way == "rows" and stored[key].dtype != wanted)
    }
    size = sum(tensor.count for tensor in unfit.values()) * wanted.itemsize
    if wanted == FLOAT and not (kernels and SMALL <= size <= RELAID):
        unfit = {}  # `x @ w` reads columns too
    total = sum(tensor.nbytes for tensor in stored.values())
    mapped = total - sum(tensor.nbytes for tensor in unfit.values()) > READ
    packed: Mapping[str, Parts] = {}
    if unfit:
        packed = _packed(unfit, layouts, dtype, size, lambda done: progress(done, total))
    for key, tensor in stored.items():
        way = layouts[key]
        if key in packed:
            rows, scale = packed[key]
            yield key, PackedMatrix(rows, scale, way == "columns", kernels)
        elif way and (kernels or wanted != FLOAT):
            yield key, PackedMatrix(_taken(tensor, wanted, mapped), machine=kernels)
        else:
            yield key, _taken(tensor, FLOAT, mapped)
    progress(total, total)


def _taken(tensor: Tensor, dtype: np.dtype, mapped: bool) -> np.ndarray:
    """A tensor as `dtype`, read; or `mapped` from the file, if that can be."""
    return tensor.map() if mapped and tensor.mappable(dtype) else tensor.read(dtype)


def _packed(
    unfit: Stored, layouts: Layouts, dtype: str, size: int, said: Callable[[int], None]
) -> Mapping[str, Parts]:
    """Packed tensors of `size` bytes in all by key: from the cache, or packed into it."""

    def each(pack: Callable[[Tensor, bool, str], T]) -> Iterator[tuple[str, T]]:
        done = 0
        for key, tensor in unfit.items():
            yield key, pack(tensor, layouts[key] == "columns", dtype)
            done += tensor.nbytes
            said(done)

    if size < SMALL:
        return dict(each(packed_rows))
    try:
        with PrivateFolder(PACKED) as folder:
            pack = Pack(folder, unfit, layouts, dtype, mapped=size > READ)
            held = pack.found() or pack.write(blocks for _, blocks in each(packed_blocks))
    except OSError as error:
        note(f"weights are packed at every start: {unusable(error)}")
        return dict(each(packed_rows))
    return {key: (held[key], held.get(f"{key}.scale")) for key in unfit}
