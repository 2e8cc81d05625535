"""What comes from the hub, held to what it promises: nothing that came is trusted by its name."""

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import RLock, Thread, get_ident
from time import monotonic
from typing import Any, TypeVar

from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.storage.reading import LONGEST, document

CHUNK = 1 << 20  # bytes of a file that are read at a time
MORE = 5  # seconds beyond the timeout of a read in which an answer must have begun
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r'(W/)?"?[\w+=:-][\w.+=:-]{0,199}"?', re.ASCII)
_ONE = RLock()  # what `guarded` changes is one for all threads
_WAYS = {
    401: "your token is not valid: hf auth login, or unset HF_TOKEN",
    403: "your token may not read it: hf auth whoami says whose it is",
    404: "nothing is there: is HF_ENDPOINT the address of a hub?",
    407: "a proxy asks who you are: HTTPS_PROXY can have a name and a password",
    429: "it was asked too often: wait, or set HF_TOKEN, which may ask more often",
    451: "the law forbids that you get it here",
}

T = TypeVar("T")


class Unanswered(Exception):
    """The hub does not say whether it has a file, but that it fails."""


class Unreached(Unanswered):
    """It says nothing: there is no way to it, or no answer in time."""


@contextmanager
def quiet(logger: str | None) -> Iterator[None]:
    """A `with` block in which a logger, the root one if None, and warnings say nothing.

    But that there is too little room on the disk is raised, as the UserWarning that it is.
    """
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Not enough free disk space")
            yield
    finally:
        log.setLevel(level)


@contextmanager
def guarded(longest: int = LONGEST) -> Iterator[None]:
    """A `with` block in which the hub's library fetches one file, or asks about one.

    The library is told nothing by a server that it must not hear: it names files of its cache by
    headers as they are, where an ETag or a commit with `../` would have it write elsewhere; it
    waits for an hour if a server says so; it may ask another server for the content by a protocol
    of its own (Xet), which can be held to no size and no time; and it asks for lists of its own.
    What it would say beside an error is left out too.

    Args:
        longest: bytes that the file may have.

    Raises:
        Unanswered: there is no answer to a HEAD in time, or it says that the hub fails.
        OSError: the file is not given, is longer than was promised or may be, or stands still.
        InputError: an answer has headers that cannot be.
    """
    constants: Any = import_module("huggingface_hub.constants")
    session: Any = import_module("huggingface_hub.utils").get_session()
    with _ONE, quiet("huggingface_hub"):
        send, no_xet = session.send, constants.HF_HUB_DISABLE_XET
        session.send, constants.HF_HUB_DISABLE_XET = _Exchange(send, longest).send, True
        try:
            yield
        finally:
            session.send, constants.HF_HUB_DISABLE_XET = send, no_xet


class _Exchange:
    """What is asked and answered about one file, by httpx or requests: `send` is alike in both."""

    def __init__(self, send: Callable[..., Any], longest: int) -> None:
        self._send, self._longest, self._thread = send, longest, get_ident()
        self._heard = False
        self._promised: int | None = None
        self._furthest, self._moved = 0, 0.0

    def send(self, request: Any, **how: Any) -> Any:
        ask = partial(self._send, request, **how)
        if get_ident() != self._thread:  # something else that shares the session
            return ask()
        if request.method == "HEAD":
            try:
                answer = in_time(ask)
            except Exception as error:  # whatever the transport of this version raises
                raise Unreached(first_line(error)) from None
            self._hear(answer)
            self._heard = True
            return answer
        if not self._heard:
            raise OSError("this is not what was asked for")  # but a list of the library's own
        answer = in_time(ask)
        if answer.status_code >= 400:  # the library would try again, for an hour if told so
            raise OSError(answered(answer.status_code))
        return self._held(answer)

    def _hear(self, answer: Any) -> None:
        """Takes what a HEAD promises; raises InputError of what cannot name a file."""
        status, headers = answer.status_code, answer.headers
        if status in (408, 429) or status >= 500:
            raise Unanswered(answered(status))
        for name, known in (("ETag", _TAG), ("X-Linked-Etag", _TAG), ("X-Repo-Commit", _COMMIT)):
            said = headers.get(name)
            if said is not None and not known.fullmatch(said):
                raise InputError(
                    f"{answer.request.url} answers with {name} {said[:80]!r}, which cannot be: "
                    "is HF_ENDPOINT the address of a hub?"
                )
        length = None if 300 <= status < 400 else headers.get("Content-Length")
        self._promised = whole(headers.get("X-Linked-Size") or length)

    def _held(self, answer: Any) -> Any:
        """An answer whose content is held to its length, however it comes."""
        rest = re.fullmatch("bytes=([0-9]+)-", answer.request.headers.get("Range", ""))
        start = int(rest[1]) if rest and answer.status_code == 206 else 0
        most = self._promised
        if most is None and not answer.headers.get("Content-Encoding"):
            length = whole(answer.headers.get("Content-Length"))
            most = None if length is None else start + length
        if most is None:
            most = LONGEST
        if most > self._longest:
            answer.close()
            raise OSError(f"it has {most:,} bytes, and {self._longest:,} are fetched at most")
        self._moved = self._moved or monotonic()
        method = "iter_bytes" if hasattr(answer, "iter_bytes") else "iter_content"
        setattr(answer, method, partial(self._pieces, getattr(answer, method), start, most))
        return answer

    def _pieces(
        self, pieces: Callable[..., Iterator[bytes]], at: int, most: int, *args: Any, **how: Any
    ) -> Iterator[bytes]:
        try:
            for piece in pieces(*args, **how):
                at += len(piece)
                if at > most:
                    raise OSError(f"more came than the {most:,} bytes that it can have")
                if at > self._furthest:
                    self._furthest, self._moved = at, monotonic()
                yield piece
        except Exception:  # after which the library asks for the rest
            still = monotonic() - self._moved
            if still > _timeout() + MORE:
                raise OSError(f"nothing more came for {still:.0f} s") from None
            raise


def in_time(ask: Callable[[], T]) -> T:
    """What `ask` gives, which waits for an answer to begin.

    The timeouts of a transport are those of one read: a server that sends a line of its headers
    now and then would be waited for without end.

    Raises:
        TimeoutError: there was none some seconds after a single read would have been given up.
    """
    answer = Future[T]()

    def asked() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:
            answer.set_exception(error)

    Thread(target=copy_context().run, args=(asked,), daemon=True).start()
    seconds = _timeout() + MORE
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"no answer in {seconds} s") from None


def _timeout() -> int:
    """Seconds after which one read is given up: 10 unless the environment says otherwise."""
    constants: Any = import_module("huggingface_hub.constants")
    return max(constants.HF_HUB_ETAG_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)


def whole(header: str | None) -> int | None:
    """The number in a header, None if it has none."""
    return int(header) if header and re.fullmatch("[0-9]{1,18}", header) else None


def answered(status: int) -> str:
    """What the hub answered in place of a file, and the way out."""
    usual = "it fails: try again later" if status >= 500 else "it says no more"
    return f"the hub answers {status}: {_WAYS.get(status, usual)}"


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def wrong(path: Path) -> str | None:
    """What is wrong with a file in the hub's cache, None if nothing that can be known.

    The cache names a large file by the SHA-256 that the hub promised of it.
    """
    promised = path.readlink().name if path.is_symlink() else ""
    if _SHA256.fullmatch(promised):
        found = hashlib.sha256()
        with path.open("rb") as stream:
            while read := stream.read(CHUNK):
                found.update(read)
        if found.hexdigest() != promised:
            return "its SHA-256 is not the one that the hub promised"
    try:
        if path.suffix == ".safetensors":
            next(tensors(path), None)
        elif path.suffix == ".json":
            document(path)
    except InputError as error:
        return str(error).removesuffix(": get it again")
    except (OSError, ValueError) as error:
        return f"it is no JSON ({error})"
    return None


def forget(path: Path) -> None:
    """Removes a file from the hub's cache, so that it is fetched anew when it is asked for."""
    for each in (path.resolve(), path):
        each.unlink(missing_ok=True)
