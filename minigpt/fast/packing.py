"""Packed weights on disk: one file for each checkpoint and dtype, tied to what it was made of.

A pack is a safetensors file; beside it lies its record, sealed by this user (see `PrivateFolder`):
what the pack is of, a digest of each tensor of the checkpoint and of the pack, and stamps of all
these files. Where stamps and sampled blocks are those of the record, nothing has been written to
any of the files since, and the pack is taken as it is. Where a stamp differs (a copy, `touch`, an
edit, a new mount), all digests decide. What this does not see is damage below the file system, on
the disk itself, and on tmpfs writes through a map; `minigpt cache --check` reads all of it.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from minigpt.checkpoint.dtypes import BY_CODE, CODES
from minigpt.checkpoint.tensors import Stored
from minigpt.errors import InputError
from minigpt.fast.packed import DTYPES, Parts
from minigpt.notes import note
from minigpt.storage.files import written_whole
from minigpt.storage.kept import bound
from minigpt.storage.private import PrivateFolder, private_file, unusable

VERSION = 2  # of what is written; another one is packed anew
SAMPLE = 4096  # bytes at both ends and in the middle of a tensor that are compared at every start
CHUNK = 1 << 20  # bytes of a file that are read at a time

Blocks = Iterator[tuple[slice, Parts]]  # of a tensor, one after the other
Layouts = Mapping[str, str | None]  # of each tensor, as `layout` of its configuration says
Record = dict[str, Any]


class Pack:
    """The packed tensors of a checkpoint in one dtype.

    Args:
        folder: where packs are, open.
        stored: the tensors that are packed.
        layouts: of each, as `layout` says.
        dtype: a name of `DTYPES`.
        mapped: whether arrays are mapped from the file, or read into memory of their own.
    """

    def __init__(
        self, folder: PrivateFolder, stored: Stored, layouts: Layouts, dtype: str, mapped: bool
    ) -> None:
        self._folder, self._stored, self._mapped = folder, stored, mapped
        self._header, self._entries = header(stored, layouts, dtype)
        pieces = chain.from_iterable(tensor.pieces for tensor in stored.values())
        self._files = {os.path.abspath(piece.file): stamp(piece.status) for piece in pieces}
        self._about = {
            "version": VERSION,
            "dtype": dtype,
            "files": list(self._files),
            "header": hashlib.sha256(self._header).hexdigest(),
            "sampled": _sampled(stored),
        }
        seed = "\0".join((dtype, *self._files))
        name = hashlib.sha256(seed.encode(errors="surrogateescape")).hexdigest()[:32]
        self._file, self._record = f"{name}.safetensors", f"{name}.json"  # names in the folder

    def found(self) -> dict[str, np.ndarray] | None:
        """The packed arrays by key; None if they are not there as they should be."""
        found = self._folder.read(self._record)
        record: Record = json.loads(found) if found else {}
        if record.get("about") != self._about:
            return None
        try:
            stream = self._folder.open(self._file)
        except OSError as error:
            note(f"{unusable(error)}: weights are packed anew")
            return None
        with stream:
            stamps = [*self._files.values(), stamp(os.fstat(stream.fileno()))]
            if record["stamps"] != stamps:
                settle(self._files)
                if not all(same(record["sources"]).values()):
                    return None
                if not whole(stream, record["parts"]):
                    note(f"{self._folder.path / self._file} is damaged: weights are packed anew")
                    return None
                with suppress(OSError):  # it was right, and will be looked at again
                    self._keep(record | {"stamps": stamps})
            self._folder.used(self._record)
            return self._arrays(stream)

    def write(self, content: Iterable[Blocks]) -> dict[str, np.ndarray]:
        """Writes tensors as they come, in order; gives them by key, as they are in the file then.

        Raises:
            OSError: there is no room, or the folder cannot be written.
            InputError: the checkpoint has changed meanwhile.
        """
        path = self._folder.path / self._file
        settle(self._files)
        with ExitStack() as opened:
            digests = self._digests(opened)
            with written_whole(path) as part:
                stream = opened.enter_context(private_file(part))
                parts = [_put(stream, [np.frombuffer(self._header, np.uint8)])]
                for blocks in content:
                    scales: list[np.ndarray] = []
                    parts.append(_put(stream, _rows(blocks, scales)))
                    if scales:
                        parts.append(_put(stream, scales))
                stream.flush()
                arrays = self._arrays(stream)  # from this file, whoever writes the next
                sources = [[*where, digest.result()] for where, digest in digests]
                self._require_unchanged()
            stamps = [*self._files.values(), stamp(os.fstat(stream.fileno()))]
        record = {"about": self._about, "stamps": stamps, "sources": sources, "parts": parts}
        failed = "weights are packed at every start"
        try:
            self._keep(record)
            failed = "the cache may grow above its limit"
            bound(but=path)
        except OSError as error:
            note(f"{failed}: {unusable(error)}")
        return arrays

    def _digests(self, opened: ExitStack) -> list[tuple[list[Any], "Future[str]"]]:
        """Where each tensor lies in the checkpoint, and its digest, which comes meanwhile."""
        streams = {}
        for file in self._files:
            streams[file] = os.open(file, os.O_RDONLY)
            opened.callback(os.close, streams[file])
        pool = ThreadPoolExecutor(1)
        opened.callback(pool.shutdown, cancel_futures=True)
        found: list[tuple[list[Any], Future[str]]] = []
        for piece in chain.from_iterable(tensor.pieces for tensor in self._stored.values()):
            file, *where = os.path.abspath(piece.file), piece.offset, piece.nbytes
            found.append(([file, *where], pool.submit(_digest, streams[file], *where)))
        return found

    def _require_unchanged(self) -> None:
        for file, before in self._files.items():
            if stamp(os.stat(file)) != before:
                raise InputError(f"{file} changed while it was read: load it again")

    def _keep(self, record: Record) -> None:
        self._folder.write(self._record, json.dumps(record).encode())

    def _arrays(self, stream: BinaryIO) -> dict[str, np.ndarray]:
        begin = len(self._header)
        size = os.fstat(stream.fileno()).st_size - begin
        if self._mapped:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            data = np.frombuffer(mapped, np.uint8, size, begin)
        else:  # in one block, all of which gets huge pages
            data = np.empty(size, np.uint8)
            stream.seek(begin)
            if stream.readinto(data) != size:  # type: ignore[attr-defined]
                raise OSError(f"{self._folder.path / self._file} ends too early")
            data.flags.writeable = False
        found = {}
        for key, entry in self._entries.items():
            part = data[slice(*entry["data_offsets"])]
            found[key] = part.view(BY_CODE[entry["dtype"]]).reshape(entry["shape"])
        return found


def _put(stream: BinaryIO, arrays: Iterable[np.ndarray]) -> list[Any]:
    """Writes arrays one after the other; gives offset, bytes and digest of all of them."""
    begin, digest = stream.tell(), hashlib.sha256()
    for array in arrays:
        data = array.view(np.uint8).data
        stream.write(data)
        digest.update(data)
    return [begin, stream.tell() - begin, digest.hexdigest()]


def _rows(blocks: Blocks, scales: list[np.ndarray]) -> Iterator[np.ndarray]:
    """The rows of blocks; their scales, if they have any, are put aside meanwhile."""
    for _, (rows, scale) in blocks:
        if scale is not None:
            scales.append(scale)
        yield rows


def header(stored: Stored, layouts: Layouts, dtype: str) -> tuple[bytes, dict[str, Any]]:
    """The header of the safetensors file of a pack, and its entries by key.

    The first tensor begins a line of the cache.
    """
    parts = []
    for key, tensor in stored.items():
        shape = tensor.shape[::-1] if layouts[key] == "columns" else tensor.shape
        parts.append((key, shape, dtype))
        if dtype == "int8":
            parts.append((f"{key}.scale", shape[:1], "float32"))
    entries, end = {}, 0
    for key, shape, of in parts:
        begin, end = end, end + prod(shape) * DTYPES[of].itemsize
        entries[key] = {"dtype": CODES[of], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text, entries


def stamp(status: os.stat_result) -> list[int]:
    """Numbers that change when somebody writes to a file, or puts another one in its place."""
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def settle(files: Iterable[str | Path]) -> None:
    """Has the disk take files, so that each write after this changes what `stamp` says.

    A page that was written through a map, and is not on the disk yet, is written again without a
    new time. To be called before a file is read, where its stamp is to stand for what was read.
    """
    for file in files:
        with suppress(OSError), open(file, "rb") as stream:  # of some that nobody can write to
            os.fsync(stream.fileno())


def whole(stream: BinaryIO, parts: Iterable[tuple[int, int, str]]) -> bool:
    """Whether a file is whole: it ends with the last of its parts, each (offset, bytes, digest)."""
    *_, (begin, nbytes, _) = parts = list(parts)
    fd = stream.fileno()
    return os.fstat(fd).st_size == begin + nbytes and all(_compared(fd, parts))


def same(sources: Iterable[tuple[str, int, int, str]]) -> dict[str, bool | None]:
    """Whether files hold, at some places, what they held; None of a file that is not there.

    Args:
        sources: (file, offset, bytes, digest) of each place.
    """
    places: dict[str, list[tuple[int, int, str]]] = {}
    for file, *place in sources:
        places.setdefault(file, []).append(tuple(place))  # type: ignore[arg-type]
    found: dict[str, bool | None] = {}
    for file, known in places.items():
        try:
            with open(file, "rb") as stream:
                found[file] = all(_compared(stream.fileno(), known))
        except FileNotFoundError:
            found[file] = None
    return found


def _compared(fd: int, places: Iterable[tuple[int, int, str]]) -> Iterator[bool]:
    with ThreadPoolExecutor() as pool:
        digests = [(pool.submit(_digest, fd, *where), known) for *where, known in places]
        yield from (digest.result() == known for digest, known in digests)


def _digest(fd: int, offset: int, nbytes: int) -> str:
    """The digest of a part of a file, read without moving where others read."""
    found, end = hashlib.sha256(), offset + nbytes
    while offset < end and (read := os.pread(fd, min(CHUNK, end - offset), offset)):
        found.update(read)
        offset += len(read)
    return found.hexdigest()


def _sampled(stored: Stored) -> str:
    """A digest of what tensors there are, where, and of some blocks of each."""
    found = hashlib.sha256()
    pieces = ((key, tensor, piece) for key, tensor in stored.items() for piece in tensor.pieces)
    for key, tensor, piece in pieces:
        found.update(f"{key} {tensor.dtype} {tensor.shape} {piece.offset}\0".encode())
        rest = max(0, piece.nbytes - SAMPLE)
        for begin in (piece.offset, piece.offset + rest // 2, piece.offset + rest):
            found.update(piece.mapped[begin : begin + min(SAMPLE, piece.nbytes)])
        piece.release()
    return found.hexdigest()
