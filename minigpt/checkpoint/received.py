"""What comes from the hub, held to what it promises: nothing that came is trusted by its name."""

import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from minigpt.checkpoint.tensors import tensors
from minigpt.errors import InputError
from minigpt.storage.reading import document

CHUNK = 1 << 20  # bytes of a file that are read at a time
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r'(W/)?"?[\w+=:-][\w.+=:-]{0,199}"?')


@contextmanager
def guarded() -> Iterator[None]:
    """A `with` block in which the hub's library is told nothing by a server that it must not hear.

    It names files of its cache by headers of the server, as they are: an ETag or a commit with
    `../` would have it write elsewhere. What it would say beside an error is left out too.
    """
    session: Any = import_module("huggingface_hub.utils").get_session()
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        if hasattr(session, "event_hooks"):  # httpx, since version 1 of the library
            before = session.event_hooks
            session.event_hooks = {**before, "response": [*before["response"], _headers]}
            try:
                yield
            finally:
                session.event_hooks = before
        else:  # requests
            session.hooks["response"].append(_headers)
            try:
                yield
            finally:
                session.hooks["response"].remove(_headers)
    finally:
        log.setLevel(level)


def _headers(response: Any, *_: Any, **__: Any) -> None:
    """Raises InputError if headers by which files are named cannot be."""
    if response.request.method != "HEAD":
        return
    for name, known in (("ETag", _TAG), ("X-Linked-Etag", _TAG), ("X-Repo-Commit", _COMMIT)):
        said = response.headers.get(name)
        if said is not None and not known.fullmatch(said):
            raise InputError(
                f"{response.request.url} answers with {name} {said!r}, which cannot be: "
                "is HF_ENDPOINT the address of a hub?"
            )


def wrong(path: Path) -> str | None:
    """What is wrong with a file in the hub's cache, None if nothing that can be known.

    The cache names a large file by the SHA-256 that the hub promised of it.
    """
    promised = path.resolve().name
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
        return str(error)
    except (OSError, ValueError) as error:
        return f"it is no JSON ({error})"
    return None


def forget(path: Path) -> None:
    """Removes a file from the hub's cache, so that it is fetched anew when it is asked for."""
    for each in (path.resolve(), path):
        each.unlink(missing_ok=True)
