"""Folders of the cache that nobody but this user can write to, and sealed files in them."""

import errno
import grp
import hashlib
import hmac
import os
import pwd
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Self

from minigpt.notes import note
from minigpt.storage.files import beside, cache_folder, reason, sweep, written_whole

DIGEST = hashlib.sha256().digest_size
MOST = 1 << 28  # bytes of a sealed file
REASONS = {errno.ELOOP: "it is a link", errno.ENOTDIR: "it is a link, or no folder"}
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe would wait for a writer


class PrivateFolder:
    """A folder of this user's cache, open in a `with` block.

    The folder, those between it and `cache_folder()`, and each file that is opened belong to this
    user, nobody else may write to them, and none is a link. Each is opened once, from its folder,
    and asked what it is when it is open: there is no moment in which it could be exchanged.
    Folders farther up need no such look. Whoever may rename things there can put a folder of his
    own in the place of this one, and that one is not this user's.

    Args:
        name: of the folder, in `cache_folder()`.
        make: whether it is made if it is not there.

    Attributes:
        path: of the folder.

    Raises:
        OSError: on entering: it cannot be made or opened, or is not private. Its `filename` and
            `strerror` say which and why. It is a FileNotFoundError if there is none, and none is
            to be made.
    """

    def __init__(self, name: str, make: bool = True) -> None:
        self.path = cache_folder() / name
        self._make = make

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            base = self.path.parents[1]
            # What is no folder is named, not what would lie in it.
            with _about(next((path for path in base.parents if path.is_file()), base)):
                if self._make:
                    with suppress(FileExistsError):
                        base.mkdir(mode=0o700, parents=True)
                self._fd = os.open(os.path.realpath(base), FOLDER)
            opened.callback(os.close, self._fd)
            _require_private(os.fstat(self._fd), base, above=True)
            for path in (self.path.parent, self.path):
                self._above, self._fd = self._fd, _folder(path, self._fd, self._make)
                opened.callback(os.close, self._fd)
                _require_private(os.fstat(self._fd), path)
            self._opened = opened.pop_all()
        for path in (self.path.parent, self.path):
            sweep(path)
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()

    def open(self, name: str) -> BinaryIO:
        """A file of the folder, to read.

        Raises:
            OSError: there is none, or it is a link, no regular file, or not this user's alone.
        """
        return _file(self.path / name, self._fd)

    def names(self) -> list[str]:
        """The names of what is in the folder."""
        return os.listdir(self._fd)

    def used(self, name: str) -> None:
        """Notes the time, by which the cache knows what has not been used for longest."""
        with suppress(OSError):
            os.utime(name, dir_fd=self._fd, follow_symlinks=False)

    def read(self, name: str) -> bytes | None:
        """The content of a sealed file; None if there is none that `write` wrote for this user.

        Raises:
            OSError: there is no key, and none can be made.
        """
        path = self.path / name
        try:
            with self.open(name) as stream:
                kept = stream.read(MOST)
        except FileNotFoundError:
            return None
        except OSError as error:
            note(f"{path} is not used: {reason(error)}")
            return None
        if not hmac.compare_digest(kept[:DIGEST], self._seal(name, kept[DIGEST:])):
            note(f"{path} is not used: it is damaged, or not of this user's making")
            return None
        return kept[DIGEST:]

    def write(self, name: str, content: bytes) -> None:
        """Writes a sealed file, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        with _about(self.path), written_whole(self.path / name) as part:
            _write(part, self._seal(name, content) + content)

    def _seal(self, name: str, content: bytes) -> bytes:
        """What only this user can tell of a file: keyed by a secret, for one name."""
        where = f"{self.path.name}/{name}\0"
        return hmac.digest(self._key(), os.fsencode(where) + content, "sha256")

    def _key(self) -> bytes:
        """The secret of this user: random bytes in the cache folder, made if there are none."""
        file = self.path.parent / "key"
        put = os.replace
        try:
            return self._known_key()
        except FileNotFoundError:
            put = os.link  # which fails where another process was quicker
        except OSError:  # one that others may know: what it sealed is made anew
            pass
        with beside(file) as folder:
            new = folder / "key"
            _write(new, secrets.token_bytes(DIGEST))
            try:
                put(new, file)
            except FileExistsError:
                pass
            except OSError:  # no hard links on this file system
                os.replace(new, file)
        return self._known_key()

    def _known_key(self) -> bytes:
        path = self.path.parent / "key"
        with _file(path, self._above) as stream:
            key = stream.read(DIGEST + 1)
            if len(key) != DIGEST or os.fstat(stream.fileno()).st_mode & 0o077:
                raise PermissionError(errno.EPERM, "it is no secret", str(path))
            return key


def unusable(error: OSError) -> str:
    """What is wrong with a cache, in a line."""
    where = f"{error.filename} cannot be used, " if error.filename else ""
    return f"{where}{reason(error)}"


def private_file(path: Path) -> BinaryIO:
    """A new file that is this user's alone, to write and read.

    Raises:
        OSError: it is there already, or cannot be made.
    """
    return open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600))


def _write(path: Path, content: bytes) -> None:
    with private_file(path) as stream:
        stream.write(content)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """A `with` block whose OSErrors name `path`, and say why in plain words."""
    try:
        yield
    except OSError as error:
        why = REASONS.get(error.errno or 0, reason(error))
        raise OSError(error.errno, why, str(path)) from None


def _folder(path: Path, above: int, make: bool) -> int:
    """A folder in the one that is open, opened too, and made before if it is to be."""
    with _about(path):
        if make:
            with suppress(FileExistsError):
                os.mkdir(path.name, 0o700, dir_fd=above)
        return os.open(path.name, FOLDER, dir_fd=above)


def _file(path: Path, above: int) -> BinaryIO:
    """A regular file of this user's alone in the folder that is open, to read."""
    with _about(path):
        fd = os.open(path.name, FILE, dir_fd=above)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        _require_private(status, path)
        return open(fd, "rb")
    except OSError:
        os.close(fd)
        raise


def _require_private(status: os.stat_result, path: Path, above: bool = False) -> None:
    """Raises PermissionError unless nobody but this user can write to a file or folder.

    Args:
        above: of the folder above those of this program: it may be root's, one in which each user
            can only touch what is his own (as /tmp), or of this user's own group.
    """
    owner, mode = status.st_uid, status.st_mode
    if owner != os.geteuid() and not (above and owner == 0):
        raise PermissionError(errno.EPERM, f"it belongs to user {owner}", str(path))
    others = mode & (stat.S_IWGRP | stat.S_IWOTH)
    if above and (mode & stat.S_ISVTX or (others == stat.S_IWGRP and _own_group(status.st_gid))):
        return
    if others:
        why = "others may write to it (chmod go-w takes that away)"
        raise PermissionError(errno.EPERM, why, str(path))


def _own_group(gid: int) -> bool:
    """Whether a group is the one that many systems make for each user, and has no other member."""
    try:
        user, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    alone = {*group.gr_mem} <= {user.pw_name}
    return alone and (gid, group.gr_name) == (user.pw_gid, user.pw_name)
