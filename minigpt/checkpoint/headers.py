"""What the files of a model hold, as their headers say: nothing of the weights is read.

Of a file on the hub the header alone is asked for, by a Range, and reading stops behind it whether
or not the server honours that. `get_safetensors_metadata` of the hub's library reads 100 kB where
fewer are needed, and the whole of a file where a server knows no ranges.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from minigpt.checkpoint.dtypes import CODES
from minigpt.checkpoint.fetch import Fetch
from minigpt.checkpoint.fit import fit
from minigpt.checkpoint.hub import here, part, source, tensor_files
from minigpt.checkpoint.quantised import SCALE, Quantised, method
from minigpt.checkpoint.received import answered, first_line, in_time, whole
from minigpt.checkpoint.resolve import is_config
from minigpt.checkpoint.tensors import Entry, entries, header_end
from minigpt.errors import InputError
from minigpt.models.architectures import PRESETS
from minigpt.models.config import Config
from minigpt.storage.reading import document

CHUNK = 16_384  # bytes of an answer that are read at a time
AT_ONCE = 8  # files that are asked for at once
_NAMES = {code: name for name, code in CODES.items()}

Header = list[tuple[str, Entry]]


@dataclass(frozen=True)
class Stored:
    """The weights of a model as they are stored.

    Attributes:
        numbers: in all tensors; of those that hold several in one, as stored.
        by_dtype: bytes by dtype, most first, by safetensors' name where NumPy has none.
        method: how they are quantised, as the config.json or the names say; None if they are not.
        scales: bytes of scales and the like beside quantised weights.
        contradiction: what `fit` finds wrong with them, None if nothing. It is not asked of
            weights that it does not make whole, nor of a model that is more than a text part.
    """

    numbers: int
    by_dtype: dict[str, int]
    method: str | None
    scales: int
    contradiction: str | None

    @property
    def nbytes(self) -> int:
        return sum(self.by_dtype.values())


def stored(model: str, config: Config) -> Stored | str | None:
    """What is stored of the weights of a model, or why that is not known.

    Args:
        model: as of `resolve`.
        config: that it gave.

    Returns:
        None where there is nothing but a configuration: of a preset, of a config.json alone.
    """
    if model in PRESETS or is_config(model):
        return None
    try:
        fetch = source(model)
        found, origin = _headers(model, fetch), fetch("config.json")
    except InputError as error:
        return str(error)
    assert origin  # or there would be no `config`
    said = document(origin)
    how = method(said, found)
    wrong = None
    try:
        if "text_config" not in said:
            fit(config, found, origin, said)
    except Quantised:
        pass
    except InputError as error:
        wrong = str(error)
    sizes, scales = Counter[str](), 0
    for key, entry in found:
        sizes[_NAMES.get(entry.code, entry.code)] += entry.nbytes
        scales += entry.nbytes if how and SCALE.fullmatch(key) else 0
    numbers = sum(entry.count for _, entry in found)
    return Stored(numbers, dict(sizes.most_common()), how, scales, wrong)


def _headers(model: str, fetch: Fetch) -> Header:
    """What the headers of all files of a model's tensors say.

    Raises:
        InputError: it has no such files, or one of them cannot be read.
    """

    @cache
    def header(name: str) -> Header | None:
        if not here(model):
            return _on_hub(model, name)
        path = fetch(name)
        return _of_file(path) if path else None

    names = tensor_files(model, fetch, header)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = zip(names, pool.map(header, names), strict=True)
        return list(chain.from_iterable(part(model, *each) for each in found))


def _of_file(path: Path) -> Header:
    def begin(n: int) -> tuple[bytes, int]:
        with path.open("rb") as stream:
            return stream.read(n), os.fstat(stream.fileno()).st_size

    return _read(path, begin)


def _on_hub(model: str, name: str) -> Header | None:
    """What the header of a file on the hub says, or of its copy in the cache; None without one."""
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_url, try_to_load_from_cache

    cached = try_to_load_from_cache(model, name)
    if isinstance(cached, str):
        return _of_file(Path(cached))
    if cached is _CACHED_NO_EXIST:
        return None
    try:
        return _read(Path(model, name), partial(_begin, hf_hub_url(model, name)))
    except FileNotFoundError:
        return None
    except InputError:
        raise
    except Exception as error:  # whatever the transport of this version raises
        what = f"{model}: the header of {name} cannot be read"
        raise InputError(f"{what}: {first_line(error)}") from None


def _read(file: Path, begin: Callable[[int], tuple[bytes, int | None]]) -> Header:
    """What a header says.

    Args:
        begin: gives the first n bytes of the file, or what there is, and its size if that is known.
    """
    try:
        got, size = begin(header_end(begin(8)[0]))
        return list(entries(file, got, size))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"{file} is not a whole safetensors file"
        raise InputError(f"{what} ({first_line(error)}): get it again") from None


def _begin(url: str, n: int) -> tuple[bytes, int | None]:
    """The first n bytes of what is at `url`, or what there is, and its size if that is said."""
    utils: Any = import_module("huggingface_hub.utils")
    asked = {"Range": f"bytes=0-{n - 1}", "Accept-Encoding": "identity"}
    with _answer(url, utils.build_hf_headers() | asked) as (answer, chunks):
        if answer.headers.get("X-Error-Code") == "EntryNotFound":
            raise FileNotFoundError
        if answer.status_code >= 400:
            raise OSError(answered(answer.status_code))
        got = bytearray()
        for chunk in chunks:
            got += chunk
            if len(got) >= n:
                break
        ranged = answer.headers.get("Content-Range", "").rpartition("/")[2]
        size = ranged if answer.status_code == 206 else answer.headers.get("Content-Length", "")
        return bytes(got[:n]), whole(size)


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """The answer to a GET whose content is read as far as it is asked for."""
    hub: Any = import_module("huggingface_hub")
    session = hub.utils.get_session()
    how = {"headers": headers, "timeout": hub.constants.HF_HUB_DOWNLOAD_TIMEOUT}
    if callable(session.stream):  # httpx, since version 1 of the library; before that, requests
        ask, content = partial(session.stream, "GET", url, **how), "iter_bytes"
    else:
        ask, content = partial(session.get, url, stream=True, **how), "iter_content"
    with ExitStack() as stack:
        answer = in_time(lambda: stack.enter_context(ask()))
        yield answer, getattr(answer, content)(CHUNK)
