"""A checkpoint's tensors as a CPU holds them: mapped, or packed once and mapped ever after."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from minigpt.fast import enabled
from minigpt.fast.packed import DTYPES, PackedMatrix, Parts, narrowed
from minigpt.fast.packing import FLOAT, Pack
from minigpt.inference.device import Held, Progress, Stored
from minigpt.models.architectures import Config, layout
from minigpt.notes import note
from minigpt.storage.kept import PACKED
from minigpt.storage.private import PrivateFolder, unusable

SMALL = 1 << 26  # bytes that are packed sooner than a file of them is written
COPIED = 1 << 29  # bytes at most that are read into memory: its pages are large, a map's are small
RELAID = 1 << 30  # bytes of float32 at most that are copied for rows in order, 15 % faster to read


def held(config: Config, stored: Stored, dtype: str, progress: Progress) -> Held:
    """The tensors by key, each matrix that multiplies as a `PackedMatrix` of `dtype`.

    Where nothing has to be converted, tensors are mapped from the checkpoint. The others are
    packed, written to the user's cache, and mapped from there at this and every later start.
    """
    machine = None
    if enabled():
        from minigpt.fast.kernels.machine import here

        machine = here()
    layouts = {key: layout(config, key, len(tensor.shape)) for key, tensor in stored.items()}
    wanted = DTYPES[dtype]
    fit = {
        key
        for key, way in layouts.items()
        if way is None or (way == "rows" and stored[key].dtype == wanted)
    }
    lacking = {key: tensor for key, tensor in stored.items() if key not in fit}
    size = sum(tensor.count for tensor in lacking.values()) * wanted.itemsize
    if wanted == FLOAT and not (machine and SMALL <= size <= RELAID):
        lacking = {}  # `x @ w` reads columns too
    total = sum(tensor.nbytes for tensor in stored.values())

    def said(done: int) -> None:
        if progress:
            progress(done, total)

    packed = _packed(lacking, layouts, dtype, size, said) if lacking else {}
    for key, tensor in stored.items():
        way = layouts[key]
        if key in packed:
            rows, scale = packed[key]
            yield key, PackedMatrix(rows, scale, way == "columns", machine)
        elif way and (machine or wanted != FLOAT):
            array = tensor.read(wanted)
            yield key, PackedMatrix(_nearer(array, size) if packed else array, machine=machine)
        else:
            yield key, tensor.read(FLOAT)
    said(total)


def _packed(
    stored: Stored,
    layouts: Mapping[str, str | None],
    dtype: str,
    size: int,
    said: Callable[[int], None],
) -> Mapping[str, Parts]:
    def parts() -> Iterator[tuple[str, Parts]]:
        done = 0
        for key, tensor in stored.items():
            array = tensor.read(FLOAT)
            rows = np.ascontiguousarray(array.T if layouts[key] == "columns" else array)
            yield key, narrowed(rows, dtype)
            done += tensor.nbytes
            said(done)

    if size < SMALL:
        return dict(parts())
    try:
        with PrivateFolder(PACKED) as folder:
            pack = Pack(folder, stored, layouts, dtype)
            found = pack.found() or pack.write(parts())
    except OSError as error:
        note(f"weights are packed at every start: {unusable(error)}")
        return dict(parts())
    near = {key: _nearer(array, size) for key, array in found.items()}
    return {key: (near[key], near.get(f"{key}.scale")) for key in stored}


def _nearer(mapped: np.ndarray, size: int) -> np.ndarray:
    """An array of a file, read where there are `size` bytes in all and reading them is quick."""
    return mapped.copy() if size <= COPIED else mapped
