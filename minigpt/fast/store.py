"""Which tensors of a checkpoint a CPU maps as they are, and which it packs once, and maps then."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from minigpt.checkpoint.tensors import Held, Progress, Stored
from minigpt.fast import machine
from minigpt.fast.packed import DTYPES, FLOAT, PackedMatrix, Parts, narrowed
from minigpt.fast.packing import Layouts, Pack
from minigpt.models.config import Config
from minigpt.notes import note
from minigpt.storage.kept import PACKED
from minigpt.storage.private import PrivateFolder, unusable

SMALL = 1 << 26  # bytes that are packed sooner than a file of them is written
COPIED = 1 << 29  # bytes at most that are copied: private memory gets huge pages, mapped files not
RELAID = 1 << 30  # bytes of float32 at most that are packed for rows in order, 15 % faster to read


def hold(config: Config, stored: Stored, dtype: str, progress: Progress) -> Held:
    """The tensors by key, each matrix that multiplies as a `PackedMatrix` of `dtype`.

    Where nothing has to be converted, tensors are mapped from the checkpoint. The others are
    packed, written to the user's cache, and mapped from there at this and every later start.
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
    packed: Mapping[str, Parts] = {}
    if unfit:
        packed = _packed(unfit, layouts, dtype, size, lambda done: progress(done, total))
    for key, tensor in stored.items():
        way = layouts[key]
        if key in packed:
            rows, scale = packed[key]
            yield key, PackedMatrix(rows, scale, way == "columns", kernels)
        elif way and (kernels or wanted != FLOAT):
            array = tensor.read(wanted)
            yield key, PackedMatrix(_copied(array, size) if packed else array, machine=kernels)
        else:
            yield key, tensor.read(FLOAT)
    progress(total, total)


def _packed(
    unfit: Stored, layouts: Layouts, dtype: str, size: int, said: Callable[[int], None]
) -> Mapping[str, Parts]:
    """Packed tensors of `size` bytes in all by key: from the cache, or packed into it."""

    def parts() -> Iterator[tuple[str, Parts]]:
        done = 0
        for key, tensor in unfit.items():
            array = tensor.read(FLOAT)
            rows = np.ascontiguousarray(array.T if layouts[key] == "columns" else array)
            yield key, narrowed(rows, dtype)
            done += tensor.nbytes
            said(done)

    if size < SMALL:
        return dict(parts())
    try:
        with PrivateFolder(PACKED) as folder:
            pack = Pack(folder, unfit, layouts, dtype)
            found = pack.found() or pack.write(parts())
    except OSError as error:
        note(f"weights are packed at every start: {unusable(error)}")
        return dict(parts())
    held = {key: _copied(array, size) for key, array in found.items()}
    return {key: (held[key], held.get(f"{key}.scale")) for key in unfit}


def _copied(mapped: np.ndarray, size: int) -> np.ndarray:
    """A mapped array, copied if it is one of so few bytes in all that this is quick."""
    return mapped.copy() if size <= COPIED else mapped
