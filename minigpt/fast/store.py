"""A checkpoint's tensors as a CPU holds them: mapped, or packed once and mapped ever after."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minigpt.architectures import Config, layout
from minigpt.device import Held, Progress, Stored
from minigpt.fast import enabled
from minigpt.fast.packed import DTYPES, PackedMatrix, Parts, narrowed
from minigpt.places import cache_folder, written_whole
from minigpt.tensors import tensors

VERSION = 1  # of what is written; another one is packed anew
SMALL = 1 << 26  # bytes that are packed sooner than a file of them is written
COPIED = 1 << 29  # bytes at most that are read into memory: its pages are large, a map's are small
RELAID = 1 << 30  # bytes of float32 at most that are copied for rows in order, 15 % faster to read
SAMPLE = 4096  # bytes at both ends of a tensor that tell checkpoints apart, beside size and time
FLOAT = np.dtype(np.float32)
CODES = {"F32": FLOAT, "F16": DTYPES["float16"], "BF16": DTYPES["bfloat16"], "I8": DTYPES["int8"]}


def held(config: Config, stored: Stored, dtype: str, progress: Progress) -> Held:
    """The tensors by key, each matrix that multiplies as a `PackedMatrix` of `dtype`.

    Where nothing has to be converted, tensors are mapped from the checkpoint. The others are
    packed, written to the user's cache, and mapped from there at this and every later start.
    """
    machine = None
    if enabled():
        from minigpt.fast.machine import here
        from minigpt.fast.twins import install

        if machine := here():
            install(machine)
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

    packed = _packed(lacking, layouts, dtype, said) if lacking else {}
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
    stored: Stored, layouts: Mapping[str, str | None], dtype: str, said: Callable[[int], None]
) -> Mapping[str, Parts]:
    def parts() -> Iterator[tuple[str, Parts]]:
        done = 0
        for key, tensor in stored.items():
            array = tensor.read(FLOAT)
            rows = np.ascontiguousarray(array.T if layouts[key] == "columns" else array)
            yield key, narrowed(rows, dtype)
            done += tensor.nbytes
            said(done)

    header, size = _header(stored, layouts, dtype)
    if size < SMALL:
        return dict(parts())
    file = cache_folder() / "packed" / f"{_name(stored, dtype)}.safetensors"
    if not _whole(file, header, size):
        try:
            _write(file, parts(), header)
        except OSError:  # no room, or a folder that may not be written: packed at each start
            return dict(parts())
    found = {key: _nearer(tensor.map(), size) for key, tensor in tensors(file, CODES)}
    return {key: (found[key], found.get(f"{key}.scale")) for key in stored}


def _nearer(mapped: np.ndarray, size: int) -> np.ndarray:
    """An array of a file, read where there are `size` bytes in all and reading them is quick."""
    return mapped.copy() if size <= COPIED else mapped


def _whole(file: Path, header: bytes, size: int) -> bool:
    """Whether a file is there, begins as it should and goes on for `size` bytes."""
    try:
        with file.open("rb") as stream:
            return stream.read(len(header)) == header and file.stat().st_size == len(header) + size
    except OSError:
        return False


def _name(stored: Stored, dtype: str) -> str:
    """A hash of what is packed and of how."""
    seed = hashlib.sha256(f"{VERSION} {dtype}".encode())
    for file in dict.fromkeys(tensor.file for tensor in stored.values()):
        status = file.stat()
        seed.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    for key, tensor in stored.items():
        seed.update(f"{key} {tensor.dtype} {tensor.shape}".encode())
        for begin in (tensor.offset, tensor.offset + max(0, tensor.nbytes - SAMPLE)):
            seed.update(tensor.mapped[begin : begin + min(SAMPLE, tensor.nbytes)])
    return seed.hexdigest()[:32]


def _header(stored: Stored, layouts: Mapping[str, str | None], dtype: str) -> tuple[bytes, int]:
    """That of a safetensors file, and the bytes that follow; tensors begin a line of the cache."""
    codes = {known: code for code, known in CODES.items()}
    entries: dict[str, Any] = {}
    end = 0

    def add(key: str, shape: tuple[int, ...], of: np.dtype) -> None:
        nonlocal end
        begin, end = end, end + int(np.prod(shape, dtype=np.int64)) * of.itemsize
        entries[key] = {"dtype": codes[of], "shape": shape, "data_offsets": [begin, end]}

    for key, tensor in stored.items():
        shape = tensor.shape[::-1] if layouts[key] == "columns" else tensor.shape
        add(key, shape, DTYPES[dtype])
        if dtype == "int8":
            add(f"{key}.scale", shape[:1], FLOAT)
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text, end


def _write(file: Path, content: Iterator[tuple[str, Parts]], header: bytes) -> None:
    with written_whole(file) as stream:
        stream.write(header)
        for _, parts in content:
            for part in parts:
                if part is not None:
                    stream.write(part.view(np.uint8).data)
