"""What the cache holds, how much of it, and what goes first when that is too much."""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minigpt.storage.private import PrivateFolder

LIMIT = 32 * 10**9  # bytes of packed weights and kernels that stay when packed weights are written
PACKED, KERNELS = "packed", "kernels"  # folders of the cache
COPIES = {"bench": "copy for another engine", "random": "random weights"}  # folders of `bench`
NOBODYS = "no model: not finished, or of another version"
FINISHED = 3600.0  # seconds after which packed weights without a record get none any more


@dataclass(frozen=True)
class Kept:
    """An entry of the cache: something that can be made again.

    Attributes:
        folder: which folder of the cache it is in.
        name: its name there.
        what: the kind of thing it is.
        of: the model that it was made from.
        paths: its files, or its folder.
        nbytes: the size of all of them.
        used: when it was used last, in seconds since 1970.
    """

    folder: str
    name: str
    what: str
    of: str
    paths: tuple[Path, ...]
    nbytes: int
    used: float

    def remove(self) -> None:
        """Removes its files. Programs that have them mapped keep what they have.

        Raises:
            OSError: it cannot be removed.
        """
        for path in self.paths:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def kept() -> list[Kept]:
    """All entries of the cache, the one that was used last first.

    Raises:
        OSError: it cannot be read, or others may write to it.
    """
    return _last_used_first({PACKED: _packs, KERNELS: _kernels} | dict.fromkeys(COPIES, _copies))


def bound(but: Path | None = None) -> None:
    """Removes packed weights and kernels, those not used for longest first, down to `LIMIT` bytes.

    Args:
        but: a file whose entry stays, whatever its size.

    Raises:
        OSError: the cache cannot be read, or something not be removed.
    """
    total = 0
    for one in _last_used_first({PACKED: _packs, KERNELS: _kernels}):
        left = one.of == NOBODYS and time.time() - one.used > FINISHED
        if but not in one.paths and (left or total + one.nbytes > LIMIT):
            one.remove()
        else:
            total += one.nbytes


def _last_used_first(
    folders: Mapping[str, Callable[[PrivateFolder], Iterable[Kept]]],
) -> list[Kept]:
    """The entries of folders, as a function for each lists them; of one that is not there none."""
    found: list[Kept] = []
    for name, entries in folders.items():
        with suppress(FileNotFoundError), PrivateFolder(name, make=False) as folder:
            found += entries(folder)
    return sorted(found, key=lambda one: one.used, reverse=True)


def _packs(folder: PrivateFolder) -> Iterator[Kept]:
    names = _names(folder)
    for stem in dict.fromkeys(name.rpartition(".")[0] or name for name in names):
        record = f"{stem}.json"
        paths = [folder.path / name for name in names if name.startswith(stem)]
        what, of = "packed weights", NOBODYS
        if record in names and (text := folder.read(record)):
            about = json.loads(text)["about"]
            files = about["files"]
            what = f"{about['dtype']} weights"
            of = files[0] if len(files) == 1 else str(Path(files[0]).parent)
        yield _entry(PACKED, stem, what, of, paths)


def _kernels(folder: PrivateFolder) -> Iterator[Kept]:
    for name in _names(folder):
        yield _entry(KERNELS, name, "compiled kernels", "all models", [folder.path / name])


def _copies(folder: PrivateFolder) -> Iterator[Kept]:
    for name in _names(folder):
        kind = folder.path.name
        yield _entry(kind, name, COPIES[kind], name, [folder.path / name])


def _names(folder: PrivateFolder) -> list[str]:
    """The names in a folder, but for what is being written."""
    return sorted(name for name in folder.names() if not name.startswith("."))


def _entry(folder: str, name: str, what: str, of: str, paths: list[Path]) -> Kept:
    nbytes, used = 0, 0.0
    for path in paths:
        files = [path]
        with suppress(FileNotFoundError):  # somebody is at it
            files += path.rglob("*") if not path.is_symlink() else ()
        for file in files:
            with suppress(FileNotFoundError):
                status = file.lstat()
                nbytes += 0 if file.is_dir() else status.st_size
    for path in [path for path in paths if path.suffix == ".json"] or paths:  # a pack's record
        with suppress(FileNotFoundError):
            used = max(used, path.lstat().st_mtime)
    return Kept(folder, name, what, of, tuple(paths), nbytes, used)
